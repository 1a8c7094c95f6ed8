"""Commands that read: bars, and SQL over all there is."""

import sys
from typing import Annotated, Literal

import typer

from alchemiser_duck.cli.options import (
    AsOfOption,
    EndOption,
    FormatOption,
    LimitOption,
    OutputFormat,
    OutputOption,
    StartOption,
    StatsOption,
    SymbolsArgument,
    group,
)
from alchemiser_duck.cli.rows import open_adapter, read, tell_stats, write

commands = group()


@commands.command(epilog="Example: alchemiser-duck bars AAPL MSFT --start 2024-01-01 --format csv")
def bars(
    symbols: SymbolsArgument,
    start: StartOption = None,
    end: EndOption = None,
    adjustment: Annotated[Literal["all", "split", "raw"], typer.Option(help="What prices are adjusted for.")] = "all",
    as_of: AsOfOption = None,
    form: FormatOption = OutputFormat.TABLE,
    path: OutputOption = None,
    limit: LimitOption = None,
    stats: StatsOption = False,
) -> None:
    """Show stored bars."""
    adapter = open_adapter(as_of)
    write(adapter.bars(symbols, start, end, adjustment), form, path, limit)
    tell_stats(adapter, asked=stats)


@commands.command(
    epilog='Example: alchemiser-duck sql "select symbol, rsi from rsi(14) order by timestamp desc limit 5"'
)
def sql(
    query: Annotated[str, typer.Argument(help="One SELECT-like statement; - reads it from stdin.")],
    as_of: AsOfOption = None,
    form: FormatOption = OutputFormat.TABLE,
    path: OutputOption = None,
    limit: LimitOption = None,
    stats: StatsOption = False,
) -> None:
    """Run read-only SQL over the views and indicators."""
    read(sys.stdin.read() if query == "-" else query, as_of, form, path, limit, stats=stats)
