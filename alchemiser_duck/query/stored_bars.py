"""Reads bars of some symbols, and says which symbols are not stored."""

import math
from collections.abc import Callable, Sequence
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from alchemiser_duck.bars import Bar
from alchemiser_duck.errors import MissingActions, UnknownSymbol, did_you_mean
from alchemiser_duck.lake.scan import BAR_VALUES, Scan
from alchemiser_duck.query.introspection import moment
from alchemiser_duck.query.literals import literal, literal_list, where
from alchemiser_duck.query.session import DuckDBSession, Reading
from alchemiser_duck.query.statement import Lens, Query
from alchemiser_duck.settings import Settings

if TYPE_CHECKING:
    from duckdb import DuckDBPyRelation

COLUMNS = BAR_VALUES | {"is_final"}
SELECTED = "symbol, epoch_us(timestamp) as timestamp, open, high, low, close, volume, vwap, trade_count"
"""The columns of a Bar, in its order; a timestamp as such is slow to fetch."""


class StoredBars:
    """The bars of a lake through a session. Safe to share between threads."""

    def __init__(self, session: DuckDBSession, settings: Settings) -> None:
        self._session = session
        self._settings = settings

    def of_symbol(
        self, symbol: str, guess: tuple[date | None, date], exact: Callable[[], tuple[date | None, date]]
    ) -> list[tuple[Any, ...]]:
        """Read the bars of one symbol, oldest first, as SELECTED has them.

        Args:
            guess: first and last day of what is most likely read; it is fetched while S3 lists.
            exact: the days to read, found meanwhile.

        Raises:
            UnknownSymbol: no bar of the symbol is stored.
        """
        # a literal: binding a parameter makes DuckDB import pandas, 0.15 s
        text = f"select {SELECTED} from bars{where(symbol_condition([symbol]))} order by timestamp"

        def read(reading: Reading) -> list[tuple[Any, ...]]:
            reading.listing.prefetch(Scan(guess[0], symbols=(symbol,)), guess[1])
            first, last = exact()
            with reading.copies(Scan(first, last, (symbol,), COLUMNS)) as copies:
                self._session.connection(names="bars")  # opens while objects arrive
                return self._session.run(Query(text, "bars", Lens(first, last), is_cacheable=True), copies).fetchall()

        rows = self._session.reading("bars", read)
        if not rows:
            self._require_stored([symbol], exact()[1])
        return rows

    def select(
        self, columns: str, relation: str, symbols: Sequence[str] | None, lens: Lens, until: date | None = None
    ) -> "DuckDBPyRelation":
        """Read columns of a relation of bars, by symbol and timestamp.

        Args:
            until: the last session to give; prices are adjusted as the lens sees them all the same.

        Raises:
            UnknownSymbol: one of the symbols is not stored.
        """
        conditions = symbol_condition(symbols) + ([f"date <= {literal(until)}"] if until else [])
        text = f"select {columns} from {relation}{where(conditions)} order by symbol, timestamp"
        scan = Scan(lens.since, lens.as_of, None if symbols is None else tuple(symbols), COLUMNS)
        rows = self._session.read(Query(text, relation, lens, is_cacheable=True), scan)
        self.require_all(symbols, rows, lens.as_of)
        return rows

    def require_all(self, symbols: Sequence[str] | None, rows: "DuckDBPyRelation", as_of: date | None) -> None:
        """Raise UnknownSymbol if rows lack a symbol that is not stored, as seen from a day."""
        if symbols and (missing := sorted(set(symbols) - _symbols_of(rows))):
            self._require_stored(missing, as_of)

    def _require_stored(self, symbols: Sequence[str], as_of: date | None) -> None:
        lens = Lens(as_of=as_of)
        text = f"select distinct symbol from bars_raw{where(symbol_condition(symbols))}"
        unknown = sorted(set(symbols) - _symbols_of(self._session.snapshot(text, lens=lens)))
        if unknown:
            self._tell_renamed(unknown, lens)
            stored = _symbols_of(self._session.snapshot("select distinct symbol from bars_raw", lens=lens))
            raise UnknownSymbol(
                f"no 1Day bars for {', '.join(map(repr, unknown))} in {self._settings.lake_url}/bars"
                f"{did_you_mean(unknown[0], stored)}; to fetch: alchemiser-duck refresh --symbols {','.join(unknown)}",
                tuple(unknown),
            )

    def _tell_renamed(self, unknown: Sequence[str], lens: Lens) -> None:
        """Raise UnknownSymbol with the newer tickers of what is stored under those."""
        query = (
            f"select symbol, series, valid_to from listings{where(symbol_condition(unknown))} and series <> symbol "
            "and valid_to is not null order by valid_to desc"
        )
        try:
            renamed = self._session.snapshot(query, lens=lens).fetchall()
        except MissingActions:
            return
        if renamed:
            told = ", ".join(
                f"{symbol} ended on {day}, and its bars are stored as {name}" for symbol, name, day in renamed
            )
            raise UnknownSymbol(f"{told}: ask for {renamed[0][1]}", tuple(unknown))


def symbol_condition(symbols: Sequence[str] | None) -> list[str]:
    """The SQL conditions that keep these symbols; None means all of them."""
    if symbols is None:
        return []
    return [f"symbol in ({literal_list(symbols)})" if symbols else "false"]


def _symbols_of(relation: "DuckDBPyRelation") -> set[str]:
    return {symbol for (symbol,) in relation.select("symbol").distinct().fetchall()}


def bar_of(row: tuple[Any, ...]) -> Bar:
    """Make a bar of a row of SELECTED."""
    symbol, timestamp, open_, high, low, close, volume, vwap, trade_count = row
    return Bar(
        symbol=symbol,
        timestamp=moment(timestamp),
        open=Decimal(repr(open_)),
        high=Decimal(repr(high)),
        low=Decimal(repr(low)),
        close=Decimal(repr(close)),
        volume=math.floor(volume + 0.5),
        vwap=None if vwap is None else Decimal(repr(vwap)),
        trade_count=trade_count,
    )
