"""Open the adapter, write rows and tell what they cost, for every command that shows rows."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alchemiser_duck.cli.options import OutputFormat

if TYPE_CHECKING:
    from alchemiser_duck.cached_market_data_adapter import CachedMarketDataAdapter


def open_adapter(as_of: str | None = None) -> "CachedMarketDataAdapter":
    """Open the adapter of the environment's lake, looking from the close of a day."""
    from alchemiser_duck.cached_market_data_adapter import CachedMarketDataAdapter
    from alchemiser_duck.cli import console

    warnings.showwarning = lambda message, *_, **__: console.warning(str(message))
    adapter = CachedMarketDataAdapter()
    return adapter if as_of is None else adapter.as_of(as_of)


def write(rows: Any, form: OutputFormat, path: Path | None, limit: int | None) -> None:
    """Write rows where and how the options say."""
    from alchemiser_duck.cli import output

    output.write(rows, output.Format(form.value), path, limit)


def read(
    query: str, as_of: str | None, form: OutputFormat, path: Path | None, limit: int | None, *, stats: bool
) -> None:
    """Write the rows of a query over the lake."""
    adapter = open_adapter(as_of)
    write(adapter.sql(query), form, path, limit)
    tell_stats(adapter, asked=stats)


def tell_stats(adapter: "CachedMarketDataAdapter", *, asked: bool) -> None:
    """Say on stderr what the last read cost, where --stats asks for it."""
    from alchemiser_duck.cli import console

    if asked:
        console.info(str(adapter.last_query_stats))
