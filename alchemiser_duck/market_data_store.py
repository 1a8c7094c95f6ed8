"""MarketDataStore: raw daily bars on S3, written whole partition by whole partition.

How a partition is replaced without losing another writer's bars: ingest/partitions.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Literal

import pyarrow as pa

from alchemiser_duck.bars import require_timeframe
from alchemiser_duck.errors import BadParameter, EmptyLake, UnknownSymbol, did_you_mean
from alchemiser_duck.exchange_calendar import new_york_date
from alchemiser_duck.ingest.bar_overrides import BarOverride, checked_values
from alchemiser_duck.ingest.corporate_actions import DELISTING, HALT
from alchemiser_duck.ingest.lake_writer import LakeWriter
from alchemiser_duck.ingest.merge import BAR_SCHEMA
from alchemiser_duck.ingest.partitions import Partition, PartitionWrite, WriteReport
from alchemiser_duck.query.arguments import as_day, one_symbol
from alchemiser_duck.query.literals import literal, literal_list
from alchemiser_duck.query.session import DuckDBSession
from alchemiser_duck.query.statement import Lens
from alchemiser_duck.settings import Settings

__all__ = ["MarketDataStore", "Partition", "PartitionWrite", "SymbolMetadata", "WriteReport"]


@dataclass(frozen=True, slots=True)
class SymbolMetadata:
    """The extent of one symbol's stored bars."""

    symbol: str
    first_date: date
    last_date: date
    bars: int


class MarketDataStore(LakeWriter):
    """Raw daily bars on S3: read, merge, conditional write."""

    def __init__(self, settings: Settings | None = None, *, session: DuckDBSession | None = None) -> None:
        """Settings come from the environment by default; readers may share the session."""
        self._settings = settings or Settings.from_environment()
        self._session = session or DuckDBSession(self._settings)
        super().__init__(self._settings, self._session)

    def write_bars(
        self, table: pa.Table, timeframe: str = "1Day", *, feed: str | None = None, run_id: str = "manual"
    ) -> WriteReport:
        """Merge bars into their partitions: one independent atomic step per year.

        Args:
            table: symbol, timestamp (UTC), open, high, low, close, vwap, volume, trade_count and is_final, in order of
                arrival; a date column is ignored, as the session follows from the timestamp.
            feed: the feed the bars come from; default: the settings' one.

        Returns:
            what was written, what changed per symbol, and the bars that broke the contract and were not stored.
            An empty table writes nothing.

        Raises:
            BadParameter: a column is missing or of a type that does not fit.
            FeedMismatch: the lake holds another feed's bars.
            WriteConflict: other writers kept replacing a partition.
            CorruptPartition: a stored object is not a partition of ours.
        """
        require_timeframe(timeframe)
        report = self.bars.write(table, timeframe, feed or self._settings.feed, run_id)
        if any(partition.is_new for partition in report.partitions):
            self.actions.begin()  # perhaps the lake is new, too
        return report

    def drop(self, symbols: list[str], timeframe: str = "1Day") -> WriteReport:
        """Remove every bar of these symbols, partition by partition.

        Raises:
            UnknownSymbol: one of them is not stored; nothing is removed then.
        """
        require_timeframe(timeframe)
        if unknown := sorted(set(symbols) - set(self.list_symbols(timeframe))):
            raise UnknownSymbol(f"no bars of {', '.join(unknown)} in {self._settings.lake_url}: nothing was removed")
        return self.bars.drop(symbols, timeframe)

    def override_bar(self, symbol: Any, day: Any, values: Mapping[str, Any] | None, reason: str, now: datetime) -> None:
        """Let a person's word about one bar as traded count, through every refresh.

        Args:
            values: fields to replace, as {"low": 65.10}; none accepts the bar as it is; None drops it.

        Raises:
            BadParameter: no such bar is stored, a field or value does not fit, or there is no reason.
        """
        if not reason.strip():
            raise BadParameter("an override needs a reason: add --reason 'what the exchange says'")
        name, session = one_symbol(symbol), as_day(day, "session")
        kind: Literal["replace", "drop", "accept"] = "drop" if values is None else "replace" if values else "accept"
        self.bars.override(BarOverride(name, session, kind, checked_values(values or {}), reason.strip(), now))
        self._recompute_factors(now)

    def restore_bar(self, symbol: Any, day: Any) -> None:
        """Take an override back: the vendor's bar counts again.

        Raises:
            BadParameter: the bar is not overridden.
        """
        self.bars.restore(one_symbol(symbol), as_day(day, "session"))
        self._recompute_factors(datetime.now(UTC))

    def note_end(self, symbol: Any, day: Any, reason: str, now: datetime, *, is_halt: bool = False) -> str:
        """Say that a symbol does not trade any more, or that trading is halted; `freshness` expects no bar of it.

        Bars that come after the day count for more than this word.

        Returns:
            the id, with which `actions.restore` takes it back.

        Raises:
            BadParameter: the symbol or the day is none, or there is no reason.
            UnknownSymbol: no bar of it is stored.
        """
        name, session = one_symbol(symbol), as_day(day, "day")
        if name not in (known := self.list_symbols()):
            raise UnknownSymbol(
                f"no bars of {name} in {self._settings.lake_url}: nothing was noted{did_you_mean(name, known)}", (name,)
            )
        return self.actions.add(HALT if is_halt else DELISTING, name, session, {}, reason, now)

    def _recompute_factors(self, now: datetime) -> None:
        """Bring the factors that are made of closes in line with the bars."""
        self.actions.merge((), new_york_date(now), everything=True)
        self.actions.note_suspects()

    def read_bars(
        self,
        symbols: list[str] | None = None,
        start: date | None = None,
        end: date | None = None,
        timeframe: str = "1Day",
    ) -> pa.Table:
        """Read raw bars of some symbols (default: all) in BAR_SCHEMA.

        They come by symbol and timestamp.
        start and end are sessions, both included. Empty where nothing matches, or nothing is stored.
        """
        require_timeframe(timeframe)
        conditions = ["true"]
        if symbols is not None:
            conditions.append(f"symbol in ({literal_list(symbols)})" if symbols else "false")
        if end is not None:
            conditions.append(f"date <= {literal(end)}")
        query = f"select * from bars_raw where {' and '.join(conditions)} order by symbol, timestamp"
        try:
            table = self._session.snapshot(query, lens=Lens(since=start)).to_arrow_table()
        except EmptyLake:
            table = BAR_SCHEMA.empty_table()
        return table.select(BAR_SCHEMA.names).cast(BAR_SCHEMA)

    def partitions(self, timeframe: str = "1Day") -> list[Partition]:
        """List the stored partitions, oldest first, in one request per 1,000."""
        require_timeframe(timeframe)
        return self.bars.stored(timeframe)

    def list_symbols(self, timeframe: str = "1Day") -> list[str]:
        """List every stored symbol, sorted; empty where nothing is stored."""
        require_timeframe(timeframe)
        try:
            rows = self._session.snapshot("select distinct symbol from bars_raw order by symbol").fetchall()
        except EmptyLake:
            return []
        return [symbol for (symbol,) in rows]

    def recent_symbols(self, first: date, last: date) -> list[str]:
        """List the symbols with a bar from first to last, sorted.

        One request per year, which a write to that year reuses.
        """
        return self.bars.recent_symbols(first, last)

    def require_feed(self, feed: str, timeframe: str = "1Day") -> None:
        """Make sure that bars of this feed may be written.

        Two requests.

        Raises:
            FeedMismatch: the newest partition holds another feed's bars.
            UnsafeStore: the lake is new, and its store ignores the conditions of a PUT.
            StorageError: S3 does not answer as it should.
        """
        require_timeframe(timeframe)
        self.bars.require_feed(feed, timeframe)

    def get_metadata(self, symbol: str, timeframe: str = "1Day") -> SymbolMetadata:
        """Return first and last session and number of bars of one symbol.

        Raises:
            UnknownSymbol: no bar of it is stored.
        """
        metadata = self.metadata_of([symbol], timeframe).get(symbol)
        if metadata is None:
            raise UnknownSymbol(
                f"no {timeframe} bars of {symbol!r} in {self._settings.lake_url}; to fetch them: "
                f"alchemiser-duck refresh --symbols {symbol}",
                (symbol,),
            )
        return metadata

    def metadata_of(self, symbols: list[str], timeframe: str = "1Day") -> dict[str, SymbolMetadata]:
        """Return the metadata of those symbols that have bars."""
        require_timeframe(timeframe)
        if not symbols:
            return {}
        query = (
            "select symbol, min(date), max(date), count(*) from bars_raw "
            f"where symbol in ({literal_list(symbols)}) group by symbol"
        )
        try:
            return {row[0]: SymbolMetadata(*row) for row in self._session.snapshot(query).fetchall()}
        except EmptyLake:
            return {}
