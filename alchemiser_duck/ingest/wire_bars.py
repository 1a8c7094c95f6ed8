"""Turn a page of Alpaca's bars into Arrow.

What is odd and still a bar is kept: a volume with fractions of shares is rounded, and noted.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from alchemiser_duck.bars import AlteredBar, QuarantinedBar

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

_COUNTS = ("v", "n")

FETCHED_SCHEMA = pa.schema(
    [("symbol", pa.string()), ("timestamp", pa.timestamp("us", tz="UTC"))]
    + [(name, kind) for _, name, kind in _WIRE_COLUMNS[1:]]
)
"""A bar as Alpaca sends it."""

LONGEST_ROW = 2000
"""Characters of a row as it came that are kept."""

_MALFORMED = (pa.ArrowException, AttributeError, KeyError, OverflowError, TypeError, ValueError)


def concatenated(tables: Iterable[pa.Table]) -> pa.Table:
    """Join tables of fetched bars; none make an empty one."""
    return pa.concat_tables([FETCHED_SCHEMA.empty_table(), *tables])


@dataclass(frozen=True)
class Page:
    """A page of bars, and what is odd about it."""

    bars: pa.Table
    malformed: tuple[QuarantinedBar, ...] = ()
    altered: tuple[AlteredBar, ...] = ()


def listed(rows: Any) -> list[Any]:
    """Return rows as a list; what is none is one odd row."""
    return rows if isinstance(rows, list) else [] if rows is None else [rows]


def bars_to_arrow(bars: dict[str, Any], requested: Iterable[str]) -> Page:
    """Convert a page's rows by symbol; stray and malformed ones stay out."""
    symbols = [symbol for symbol, rows in bars.items() for _ in listed(rows)]
    rows = [row for rows in bars.values() for row in listed(rows)]
    stray = set(bars) - set(requested)
    if not stray:
        try:
            return Page(_table(symbols, rows), (), tuple(_altered(symbols, rows)))
        except _MALFORMED:
            pass  # at least one row is: find out which
    tables: list[pa.Table] = []
    malformed: list[QuarantinedBar] = []
    altered: list[AlteredBar] = []
    for symbol, row in zip(symbols, rows, strict=True):
        try:
            if symbol in stray:
                raise ValueError("the symbol was not asked for")
            tables.append(_table([symbol], [row]))
            altered += _altered([symbol], [row])
        except _MALFORMED as problem:
            reason = f"malformed: {type(problem).__name__}: {problem}"
            malformed.append(QuarantinedBar(symbol, _timestamp(row), reason, _as_sent(row)))
    return Page(concatenated(tables), tuple(malformed), tuple(altered))


def _table(symbols: list[str], rows: list[dict[str, Any]]) -> pa.Table:
    columns = {
        name: _column([row.get(key) if key in _OPTIONAL else row[key] for row in rows], kind)
        for key, name, kind in _WIRE_COLUMNS
    }
    columns["timestamp"] = columns["timestamp"].cast(pa.timestamp("us", tz="UTC"))
    return pa.table({"symbol": pa.array(symbols, pa.string()), **columns}, schema=FETCHED_SCHEMA)


def _altered(symbols: list[str], rows: list[dict[str, Any]]) -> Iterable[AlteredBar]:
    """Name the bars whose volume or count of trades was rounded."""
    for symbol, row in zip(symbols, rows, strict=True):
        for key in _COUNTS:
            value = row.get(key)
            if isinstance(value, float) and not value.is_integer():
                reason = f"{key} {value!r} was rounded to whole shares or trades"
                yield AlteredBar(symbol, _timestamp(row) or datetime.min.replace(tzinfo=UTC), reason, _as_sent(row))


def _as_sent(row: Any) -> str:
    return json.dumps(row, sort_keys=True, default=str)[:LONGEST_ROW]


def _column(values: list[Any], kind: pa.DataType) -> pa.Array:
    """Convert values; texts for numbers fail, fractions of shares are rounded half up."""
    column = pa.array(values)
    if pa.types.is_floating(column.type) and pa.types.is_integer(kind):
        column = pc.round(column, round_mode="half_up")
    if pa.types.is_string(column.type) and not pa.types.is_string(kind):
        raise TypeError(f"a text where a number belongs: {values[0]!r}")
    if pa.types.is_boolean(column.type):
        raise TypeError(f"no number: {values[0]!r}")
    return column.cast(kind)


def _timestamp(row: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(row["t"])
    except (KeyError, TypeError, ValueError):
        return None
