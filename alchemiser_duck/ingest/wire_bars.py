"""Turn a page of Alpaca's bars into Arrow."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import pyarrow as pa

from alchemiser_duck.bars import QuarantinedBar

_WIRE_COLUMNS = (
    ("t", "timestamp", pa.string()),
    ("o", "open", pa.float64()),
    ("h", "high", pa.float64()),
    ("l", "low", pa.float64()),
    ("c", "close", pa.float64()),
    ("vw", "vwap", pa.float64()),
    ("v", "volume", pa.int64()),
    ("n", "trade_count", pa.int64()),
)

_OPTIONAL = ("vw", "n")

FETCHED_SCHEMA = pa.schema(
    [("symbol", pa.string()), ("timestamp", pa.timestamp("us", tz="UTC"))]
    + [(name, kind) for _, name, kind in _WIRE_COLUMNS[1:]]
)
"""A bar as Alpaca sends it."""

_MALFORMED = (pa.ArrowException, AttributeError, KeyError, OverflowError, TypeError, ValueError)


def concatenated(tables: Iterable[pa.Table]) -> pa.Table:
    """Join tables of fetched bars; none make an empty one."""
    return pa.concat_tables([FETCHED_SCHEMA.empty_table(), *tables])


def bars_to_arrow(
    bars: dict[str, list[dict[str, Any]]], requested: Iterable[str]
) -> tuple[pa.Table, list[QuarantinedBar]]:
    """Convert a page's rows by symbol; stray and malformed ones stay out."""
    symbols = [symbol for symbol, rows in bars.items() for _ in rows or ()]
    rows = [row for rows in bars.values() for row in rows or ()]
    stray = set(bars) - set(requested)
    if not stray:
        try:
            return _table(symbols, rows), []
        except _MALFORMED:
            pass  # at least one row is: find out which
    tables: list[pa.Table] = []
    malformed: list[QuarantinedBar] = []
    for symbol, row in zip(symbols, rows, strict=True):
        try:
            if symbol in stray:
                raise ValueError("the symbol was not asked for")
            tables.append(_table([symbol], [row]))
        except _MALFORMED as problem:
            malformed.append(QuarantinedBar(symbol, _timestamp(row), f"malformed: {type(problem).__name__}: {problem}"))
    return concatenated(tables), malformed


def _table(symbols: list[str], rows: list[dict[str, Any]]) -> pa.Table:
    columns = {
        name: _column([row.get(key) if key in _OPTIONAL else row[key] for row in rows], kind)
        for key, name, kind in _WIRE_COLUMNS
    }
    columns["timestamp"] = columns["timestamp"].cast(pa.timestamp("us", tz="UTC"))
    return pa.table({"symbol": pa.array(symbols, pa.string()), **columns}, schema=FETCHED_SCHEMA)


def _column(values: list[Any], kind: pa.DataType) -> pa.Array:
    """Convert values; fractional volumes and texts for numbers fail."""
    column = pa.array(values)
    if pa.types.is_string(column.type) and not pa.types.is_string(kind):
        raise TypeError(f"a text where a number belongs: {values[0]!r}")
    return column.cast(kind)


def _timestamp(row: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(row["t"])
    except (KeyError, TypeError, ValueError):
        return None
