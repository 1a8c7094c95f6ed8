"""Commands on symbols: list the stored ones, extract those that files talk about."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from alchemiser_duck.cli.options import (
    AsOfOption,
    FormatOption,
    LimitOption,
    ListGroup,
    OutputFormat,
    OutputOption,
    ReasonOption,
    StatsOption,
    group,
)
from alchemiser_duck.cli.rows import read, write

commands = group(
    "List the stored symbols; extract symbols from strategies, queries and lists.",
    "symbols --format csv",
    cls=ListGroup,
)


@commands.command("list", epilog="Example: alchemiser-duck symbols list --format csv")
def list_symbols(
    form: FormatOption = OutputFormat.TABLE,
    path: OutputOption = None,
    limit: LimitOption = None,
    stats: StatsOption = False,
) -> None:
    """List the stored symbols with their first and last session."""
    read("from symbols order by symbol", None, form, path, limit, stats=stats)


@commands.command(epilog="Example: alchemiser-duck symbols universe --as-of 2021-03-01")
def universe(
    as_of: AsOfOption = None,
    form: FormatOption = OutputFormat.TABLE,
    path: OutputOption = None,
    limit: LimitOption = None,
) -> None:
    """List the symbols that traded on a day, those that have ended since included."""
    read("from universe order by symbol", as_of, form, path, limit, stats=False)


@commands.command(epilog="Example: alchemiser-duck symbols listings META")
def listings(
    symbol: Annotated[str | None, typer.Argument(help="A ticker, of today or of then; default: all.")] = None,
    as_of: AsOfOption = None,
    form: FormatOption = OutputFormat.TABLE,
    path: OutputOption = None,
    limit: LimitOption = None,
) -> None:
    """Show who had which ticker from when to when: renames, mergers, ends, reused tickers."""
    from alchemiser_duck.query.arguments import one_symbol
    from alchemiser_duck.query.literals import literal

    condition = f" where {literal(one_symbol(symbol))} in (symbol, series, company)" if symbol else ""
    read(f"from listings{condition} order by symbol, valid_from", as_of, form, path, limit, stats=False)


@commands.command(epilog="Example: alchemiser-duck symbols ended SIVB 2023-03-10 --reason 'closed by the regulator'")
def ended(
    symbol: Annotated[str, typer.Argument(help="A ticker.")],
    day: Annotated[str, typer.Argument(help="The first day on which it did not trade, e.g. 2023-03-10.")],
    reason: ReasonOption,
) -> None:
    """Say that a symbol does not trade any more: it is not stale for ever."""
    _note_end(symbol, day, reason, is_halt=False)


@commands.command(epilog="Example: alchemiser-duck symbols halted SVXY 2024-02-05 --reason 'news pending'")
def halted(
    symbol: Annotated[str, typer.Argument(help="A ticker.")],
    day: Annotated[str, typer.Argument(help="The day on which trading stopped, e.g. 2024-02-05.")],
    reason: ReasonOption,
) -> None:
    """Say that trading is halted: it is not stale until its next bar."""
    _note_end(symbol, day, reason, is_halt=True)


@commands.command(epilog="Example: alchemiser-duck symbols extract strategies/")
def extract(
    paths: Annotated[list[Path], typer.Argument(help="Files or folders.")],
    form: FormatOption = OutputFormat.TABLE,
    path: OutputOption = None,
    limit: LimitOption = None,
) -> None:
    """Show the symbols that files talk about, where, and the indicators and windows they use."""
    import pyarrow as pa

    from alchemiser_duck.cli import console
    from alchemiser_duck.symbol_extractor import SymbolExtractor

    found = SymbolExtractor().extract(*paths)
    rows = [
        {
            "symbol": one.symbol,
            "indicators": [str(use) for use in one.indicators],
            "bars_needed": one.bars_needed,
            "places": [str(place) for place in one.places],
        }
        for one in found.symbols
    ]
    texts = pa.list_(pa.string())
    columns = {"symbol": pa.string(), "indicators": texts, "bars_needed": pa.int64(), "places": texts}
    write(pa.Table.from_pylist(rows, pa.schema(list(columns.items()))), form, path, 0 if limit is None else limit)
    for one in found.left_out:
        console.warning(str(one))


def _note_end(symbol: str, day: str, reason: str, *, is_halt: bool) -> None:
    from alchemiser_duck.cli import console
    from alchemiser_duck.market_data_store import MarketDataStore

    noted = MarketDataStore().note_end(symbol, day, reason, datetime.now(UTC), is_halt=is_halt)
    console.info(f"noted; to take it back: alchemiser-duck actions restore {noted}")
