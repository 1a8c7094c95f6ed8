"""Bars in memory: what one read saw, good until the next session completes."""

from bisect import bisect_left
from datetime import date
from typing import TYPE_CHECKING

from alchemiser_duck.bars import Bar
from alchemiser_duck.query.introspection import moment
from alchemiser_duck.query.stored_bars import bar_of

if TYPE_CHECKING:
    from duckdb import DuckDBPyRelation


class WarmBars:
    """Bars in memory: what one read saw, good until the next session completes."""

    def __init__(self, snapshot: "DuckDBPyRelation", symbols: frozenset[str], first: date | None, last: date) -> None:
        """Keep a snapshot: date, then the columns of a bar, by symbol and timestamp."""
        self._symbols = symbols
        self._first = first
        self._last = last
        self._rows = snapshot.to_arrow_table()
        self._dates = self._rows["date"].combine_chunks()
        self._places: dict[str, tuple[int, int]] = {}
        start = 0
        for symbol, count in snapshot.aggregate("symbol, count(*)", "symbol").order("symbol").fetchall():
            self._places[symbol] = (start, start + count)
            start += count
        for (microseconds,) in snapshot.select("timestamp").distinct().fetchall():
            moment(microseconds)  # sessions, which all symbols share

    def covers(self, symbol: str, first: date | None, last: date) -> bool:
        """Tell whether all bars of a symbol from one day to another are here."""
        reaches_back = self._first is None or (first is not None and first >= self._first)
        return symbol in self._symbols and last == self._last and reaches_back

    def bars(self, symbol: str, first: date | None) -> list[Bar]:
        """Give the bars of a symbol from a day on, oldest first."""
        start, end = self._places.get(symbol, (0, 0))
        if first:
            start = bisect_left(range(end), first, start, key=lambda row: self._dates[row].as_py())
        columns = self._rows.slice(start, end - start).to_pydict()
        del columns["date"]
        return [bar_of(row) for row in zip(*columns.values(), strict=True)]
