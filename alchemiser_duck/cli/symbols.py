"""Commands on symbols: list the stored ones, extract those that files talk about."""

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
