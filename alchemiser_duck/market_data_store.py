"""MarketDataStore: partitions on S3. One partition is one object is one transaction.

S3 has no commit over several objects, so a partition is a single object that is replaced whole: read with its ETag,
merged, sorted, and PUT on condition that it is still the one that was read. Whoever loses that race reads and merges
again. A writer that dies leaves either the old object or the new one.
"""

import io
import re
import uuid
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from alchemiser_duck.bars import QuarantinedBar, require_timeframe
from alchemiser_duck.errors import (
    BadParameter,
    CorruptPartition,
    EmptyLake,
    FeedMismatch,
    UnknownSymbol,
)
from alchemiser_duck.ingest.action_store import CorporateActionStore
from alchemiser_duck.ingest.merge import BAR_SCHEMA, Changes, MergedPartition, by_year, check_bars, merge_bars
from alchemiser_duck.lake.io_stats import Traffic
from alchemiser_duck.lake.object_store import PreconditionFailed, S3Objects, StoredObject, small_parquet
from alchemiser_duck.query.literals import literal, literal_list
from alchemiser_duck.query.session import DuckDBSession
from alchemiser_duck.query.statement import Lens
from alchemiser_duck.settings import Settings

SCHEMA_VERSION = "1"

ROW_GROUP_ROWS = 131_072
"""About 130 symbols of one year: one symbol's year costs at most two row groups, a universe's few requests."""

SESSIONS_KEY = "sessions/sessions.parquet"

FOOTER_BYTES = 1 << 20
"""Enough of an object's end to hold its Parquet footer."""


@dataclass(frozen=True, slots=True)
class Partition:
    """One object: all bars of one timeframe and year."""

    timeframe: str
    year: int

    @property
    def key(self) -> str:
        return f"bars/timeframe={self.timeframe}/year={self.year}/bars.parquet"


@dataclass(frozen=True, slots=True)
class PartitionWrite:
    """What a write did to one partition."""

    partition: Partition
    written: bool
    """False: the content would not have changed, so nothing was sent."""
    rows: int
    """bars in the partition afterwards"""
    attempts: int
    """1, plus one for every time another writer was faster"""


@dataclass(frozen=True)
class WriteReport:
    """What a write did, per partition and per symbol."""

    partitions: tuple[PartitionWrite, ...]
    changes: dict[str, Changes]
    quarantined: tuple[QuarantinedBar, ...]


@dataclass(frozen=True, slots=True)
class SymbolMetadata:
    """What is stored of one symbol."""

    symbol: str
    first_date: date
    last_date: date
    bars: int


class MarketDataStore:
    """Raw daily bars on S3: read, merge, conditional write."""

    def __init__(self, settings: Settings | None = None, *, session: DuckDBSession | None = None) -> None:
        """Everything comes from the environment unless settings are given; a session can be shared with readers."""
        self._settings = settings or Settings.from_environment()
        self._objects = S3Objects(self._settings)
        self._session = session or DuckDBSession(self._settings)
        self.actions = CorporateActionStore(self._settings, self._objects, self._session)
        self._feeds: dict[str, str] = {}
        self._read_ahead_of: dict[Partition, _Read] = {}

    @property
    def traffic(self) -> Traffic:
        """Requests and bytes to and from S3 since this store was made, reads through DuckDB not counted."""
        return self._objects.traffic

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
        try:
            checked = check_bars(table)
        except (KeyError, pa.ArrowInvalid, pa.ArrowNotImplementedError) as problem:
            raise BadParameter(
                f"not a table of bars: {problem}; its columns are {', '.join(table.column_names)}"
            ) from problem
        writes = []
        changes: dict[str, Changes] = defaultdict(Changes)
        for year, bars in by_year(checked.bars, checked.bars["date"]):
            write, touched = self._merge_into(Partition(timeframe, year), bars, feed or self._settings.feed, run_id)
            writes.append(write)
            for symbol, change in touched.items():
                changes[symbol] += change
        return WriteReport(tuple(writes), dict(changes), checked.quarantined)

    def drop(self, symbols: list[str], timeframe: str = "1Day") -> WriteReport:
        """Remove every bar of these symbols, partition by partition.

        Raises:
            UnknownSymbol: one of them is not stored; nothing is removed then.
        """
        require_timeframe(timeframe)
        if unknown := sorted(set(symbols) - set(self.list_symbols(timeframe))):
            raise UnknownSymbol(f"no bars of {', '.join(unknown)} in {self._settings.lake_url}: nothing was removed")

        def without(stored: pa.Table | None) -> MergedPartition | None:
            if stored is None:
                return None
            kept = stored.filter(pc.invert(pc.is_in(stored["symbol"], pa.array(symbols, pa.string()))))
            return MergedPartition(kept) if kept.num_rows < stored.num_rows else None

        writes = tuple(self._rewrite(partition, without, None, "drop") for partition in self.partitions(timeframe))
        return WriteReport(writes, {}, ())

    def read_bars(
        self,
        symbols: list[str] | None = None,
        start: date | None = None,
        end: date | None = None,
        timeframe: str = "1Day",
    ) -> pa.Table:
        """Raw bars of some symbols (default: all) in BAR_SCHEMA, sorted by symbol and timestamp.

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
        """The stored partitions, oldest first; empty where nothing is stored. One S3 request per 1,000."""
        require_timeframe(timeframe)
        pattern = re.compile(rf"bars/timeframe={timeframe}/year=(\d{{4}})/bars\.parquet")
        matches = (pattern.fullmatch(key) for key in self._objects.keys(f"bars/timeframe={timeframe}/"))
        return [Partition(timeframe, int(match.group(1))) for match in matches if match]

    def list_symbols(self, timeframe: str = "1Day") -> list[str]:
        """Every stored symbol, sorted; empty where nothing is stored."""
        require_timeframe(timeframe)
        try:
            rows = self._session.snapshot("select distinct symbol from bars_raw order by symbol").fetchall()
        except EmptyLake:
            return []
        return [symbol for (symbol,) in rows]

    def require_feed(self, feed: str, timeframe: str = "1Day") -> None:
        """Make sure, in two requests, that the lake can be read and that bars of this feed may be written to it.

        Raises:
            FeedMismatch: its newest partition holds another feed's bars.
            StorageError: S3 does not answer as it should.
        """
        if stored := self.partitions(timeframe):
            self._refuse_other_feed(feed, self._feed_of(stored[-1]))

    def recent_symbols(self, first: date, last: date) -> list[str]:
        """The symbols with a bar from first to last, sorted. One request per year, which a write to it reuses."""
        found: set[str] = set()
        for year in range(first.year, last.year + 1):
            partition = Partition("1Day", year)
            bars = self._decode(partition, self._read_ahead(partition))[0]
            if bars is not None:
                in_range = pc.and_(pc.greater_equal(bars["date"], first), pc.less_equal(bars["date"], last))
                found.update(pc.unique(bars.filter(in_range)["symbol"]).to_pylist())
        return sorted(found)

    def get_metadata(self, symbol: str, timeframe: str = "1Day") -> SymbolMetadata:
        """First and last session and number of bars of one symbol.

        Raises:
            UnknownSymbol: no bar of it is stored.
        """
        found = self.metadata_of([symbol], timeframe).get(symbol)
        if found is None:
            raise UnknownSymbol(
                f"no {timeframe} bars of {symbol!r} in {self._settings.lake_url}; to fetch them: "
                f"alchemiser-duck refresh --symbols {symbol}",
                (symbol,),
            )
        return found

    def metadata_of(self, symbols: list[str], timeframe: str = "1Day") -> dict[str, SymbolMetadata]:
        """First and last session and number of bars of each symbol; those without any bar are left out."""
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

    def write_sessions(self, sessions: pa.Table) -> None:
        """Store the exchange's sessions, where they are not stored just so: one request, two where they changed."""

        def step(_: int) -> None:
            stored = self._objects.get(SESSIONS_KEY)
            body = small_parquet(sessions, increasing=["date", "open", "close"])
            if stored is None or stored.body != body:
                self._objects.put(SESSIONS_KEY, body, replaces=stored.etag if stored else None)

        self._objects.until_written(SESSIONS_KEY, step)

    def append_run(self, key: str, record: pa.Table) -> None:
        """Store the record of one refresh run under a key of its own: the audit trail, never rewritten."""
        with suppress(PreconditionFailed):  # a retried PUT of ours that had arrived the first time
            self._objects.put(key, small_parquet(record), replaces=None)

    def _merge_into(
        self, partition: Partition, bars: pa.Table, feed: str, run_id: str
    ) -> tuple[PartitionWrite, dict[str, Changes]]:
        changes: dict[str, Changes] = {}

        def merge(stored: pa.Table | None) -> MergedPartition | None:
            nonlocal changes
            merged = merge_bars(stored, bars)
            changes = merged.changes
            return merged if merged.changed else None

        return self._rewrite(partition, merge, feed, run_id), changes

    def _rewrite(
        self,
        partition: Partition,
        change: Callable[[pa.Table | None], MergedPartition | None],
        feed: str | None,
        run_id: str,
    ) -> PartitionWrite:
        """Replace a partition by what `change` makes of it (None: leave it); again if another writer was faster."""
        write_id = uuid.uuid4().hex
        rows = 0

        def step(attempt: int) -> PartitionWrite:
            nonlocal rows
            before = self._read_ahead_of.pop(partition, None) or _Read(self._objects.get(partition.key))
            stored, metadata = self._decode(partition, before.object)
            etag = before.object.etag if before.object else None
            del before  # its bytes: a large partition is in memory once, decoded
            if metadata.get("write_id") == write_id:
                return PartitionWrite(partition, True, rows, attempt)  # our PUT had arrived, only its answer was lost
            stored_feed = metadata.get("feed") or self._feed_beside(partition)
            self._refuse_other_feed(feed, stored_feed)
            rows = 0 if stored is None else stored.num_rows
            after = change(stored)
            del stored
            if after is None:
                return PartitionWrite(partition, False, rows, attempt)
            rows = after.bars.num_rows
            labels = {"schema_version": SCHEMA_VERSION, "run_id": run_id, "write_id": write_id}
            labels["feed"] = self._feeds[partition.timeframe] = feed or stored_feed or self._settings.feed
            body = _encode(after.bars, labels)
            self._objects.put(partition.key, body, replaces=etag)
            return PartitionWrite(partition, True, rows, attempt)

        return self._objects.until_written(partition.key, step)

    def _read_ahead(self, partition: Partition) -> StoredObject | None:
        """Read a partition before it is known what will be written to it; the write's condition is this read's ETag."""
        read = self._read_ahead_of[partition] = _Read(self._objects.get(partition.key))
        return read.object

    def _feed_beside(self, partition: Partition) -> str | None:
        """The feed of the lake around a partition that does not exist yet: of one seen, or of the year before."""
        return self._feeds.get(partition.timeframe) or self._feed_of(replace(partition, year=partition.year - 1))

    def _feed_of(self, partition: Partition) -> str | None:
        """The feed in a partition's footer; None where there is no partition, or it is not one of ours."""
        end = self._objects.get_end(partition.key, FOOTER_BYTES)
        if not end:
            return None
        try:
            feed = _labels(pq.read_schema(pa.BufferReader(end))).get("feed")
        except (pa.ArrowException, OSError):
            return None  # whoever writes to it is told
        if feed:
            self._feeds[partition.timeframe] = feed
        return feed

    def _refuse_other_feed(self, feed: str | None, stored_feed: str | None) -> None:
        if feed and stored_feed and feed != stored_feed:
            raise FeedMismatch(
                f"{self._settings.lake_url} holds {stored_feed} bars, these are {feed}: their volumes cannot be mixed; "
                f"set ALPACA_DATA_FEED={stored_feed}, or use another prefix for {feed}"
            )

    def _decode(self, partition: Partition, stored: StoredObject | None) -> tuple[pa.Table | None, dict[str, str]]:
        """The bars and the labels of a stored partition.

        Raises:
            CorruptPartition: it is not one of ours.
        """
        if stored is None:
            return None, {}
        try:
            table = pq.read_table(pa.BufferReader(stored.body))
            labels = _labels(table.schema)
            if labels.get("schema_version") != SCHEMA_VERSION:
                raise ValueError(f"schema version {labels.get('schema_version')}, expected {SCHEMA_VERSION}")
            bars = table.select(BAR_SCHEMA.names).cast(BAR_SCHEMA)
        except (pa.ArrowException, ValueError, KeyError, OSError) as problem:
            raise CorruptPartition(
                f"{self._settings.lake_url}/{partition.key} is not a partition of ours ({problem}): it was left as it "
                "is; move it away and refresh again"
            ) from problem
        self._feeds[partition.timeframe] = labels.get("feed", "")
        return bars, labels


@dataclass(frozen=True, slots=True)
class _Read:
    """What one GET found: an object, or none."""

    object: StoredObject | None


def _labels(schema: pa.Schema) -> dict[str, str]:
    return {key.decode(): value.decode() for key, value in (schema.metadata or {}).items() if key != b"ARROW:schema"}


def _encode(bars: pa.Table, labels: dict[str, str]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(
        bars.replace_schema_metadata(labels),
        sink,
        compression="zstd",
        row_group_size=ROW_GROUP_ROWS,
        use_dictionary=["symbol", "date", "timestamp"],
        sorting_columns=[pq.SortingColumn(bars.schema.get_field_index(name)) for name in ("symbol", "timestamp")],
    )
    return sink.getvalue()
