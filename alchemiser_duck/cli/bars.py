"""Commands that read: bars, and SQL over all there is."""

import sys
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import typer

from alchemiser_duck.cli.arguments import assignment
from alchemiser_duck.cli.options import (
    AsOfOption,
    EndOption,
    FormatOption,
    LimitOption,
    ListGroup,
    OutputFormat,
    OutputOption,
    ReasonOption,
    StartOption,
    StatsOption,
    SymbolsArgument,
    group,
)
from alchemiser_duck.cli.rows import open_adapter, read, tell_stats, write
from alchemiser_duck.errors import BadParameter

commands = group()
of_bars = group(
    "Show stored bars; override the vendor's, or say that an odd one is right.",
    "bars AAPL MSFT --start 2024-01-01 --format csv",
    cls=ListGroup,
)
commands.add_typer(of_bars, name="bars")

SymbolArgument = Annotated[str, typer.Argument(help="A ticker.")]
SessionArgument = Annotated[str, typer.Argument(help="A session, e.g. 2021-06-11.")]


@of_bars.command("list", epilog="Example: alchemiser-duck bars AAPL MSFT --start 2024-01-01 --format csv")
def list_bars(
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


@of_bars.command(epilog="Example: alchemiser-duck bars overrides")
def overrides(form: FormatOption = OutputFormat.TABLE, path: OutputOption = None, limit: LimitOption = None) -> None:
    """List the bars that are overridden or accepted, with the vendor's values."""
    read("from bar_overrides order by symbol, date", None, form, path, limit, stats=False)


@of_bars.command(epilog="Example: alchemiser-duck bars override MRK 2021-06-11 --set low=65.10 --reason 'a bad print'")
def override(
    symbol: SymbolArgument,
    session: SessionArgument,
    reason: ReasonOption,
    values: Annotated[list[str] | None, typer.Option("--set", help="A field and its value; repeatable.")] = None,
    drop: Annotated[bool, typer.Option("--drop", help="There was no such bar.")] = False,
) -> None:
    """Replace fields of a bar as traded, or drop it; it stays so through every refresh."""
    if bool(values) == drop:
        raise BadParameter("say either --set field=value, or --drop")
    fields = dict(assignment(text, "--set") for text in values or ())
    _store().override_bar(symbol, session, fields or None, reason, datetime.now(UTC))


@of_bars.command(epilog="Example: alchemiser-duck bars accept UVXY 2018-02-06 --reason 'it did fall so far'")
def accept(symbol: SymbolArgument, session: SessionArgument, reason: ReasonOption) -> None:
    """Say that an odd bar is right: `check` is quiet about it from now on."""
    _store().override_bar(symbol, session, {}, reason, datetime.now(UTC))


@of_bars.command(epilog="Example: alchemiser-duck bars restore MRK 2021-06-11")
def restore(symbol: SymbolArgument, session: SessionArgument) -> None:
    """Take an override back: the vendor's bar counts again."""
    _store().restore_bar(symbol, session)


def _store() -> Any:
    from alchemiser_duck.market_data_store import MarketDataStore

    return MarketDataStore()


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
