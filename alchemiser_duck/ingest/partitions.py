"""BarPartitions: the bars on S3, replaced partition by partition.

One partition is one object is one transaction.
S3 has no commit over several objects, so a partition is a single object that is replaced whole: read with its ETag,
merged, sorted, and PUT on condition that it is still the one that was read. Whoever loses that race reads and merges
again. A writer that dies leaves either the old object or the new one.
"""

import io
import uuid
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from alchemiser_duck.bars import AlteredBar, QuarantinedBar
from alchemiser_duck.errors import BadParameter, CorruptPartition, FeedMismatch
from alchemiser_duck.ingest.bar_overrides import (
    LABEL,
    BarOverride,
    Overrides,
    applied,
    decoded,
    encoded,
    require_sound,
    without,
)
from alchemiser_duck.ingest.departures import Answered, Departures, relabelled, without_departed
from alchemiser_duck.ingest.identities import OneCompany, Rename
from alchemiser_duck.ingest.merge import (
    BAR_SCHEMA,
    Changes,
    MergedPartition,
    by_year,
    check_bars,
    merge_bars,
    session_dates,
)
from alchemiser_duck.lake import keys
from alchemiser_duck.lake.keys import ACTIONS_VERSION
from alchemiser_duck.lake.object_store import S3Objects, StoredObject
from alchemiser_duck.settings import Settings

SCHEMA_VERSION = "1"

ROW_GROUP_ROWS = 131_072
"""About 130 symbols of one year: one symbol's year costs at most two row groups, a universe's few requests."""

FOOTER_BYTES = 1 << 20
"""Enough of an object's end to hold its Parquet footer."""

RECENT = timedelta(days=30)

Change = Callable[[pa.Table | None, Overrides], MergedPartition | None]
"""Makes another partition of the stored one. None stands for no partition, and for no change."""


@dataclass(frozen=True, slots=True)
class Partition:
    """One object: all bars of one timeframe and year."""

    timeframe: str
    year: int

    @property
    def key(self) -> str:
        return keys.partition(self.year, self.timeframe)


@dataclass(frozen=True, slots=True)
class PartitionWrite:
    """The effect of a write on one partition."""

    partition: Partition
    written: bool
    """False means that the content would not have changed, so nothing was sent"""
    rows: int
    """bars in the partition afterwards"""
    attempts: int
    """1, plus one for every time another writer was faster"""
    is_new: bool = False
    """True: there was no such partition before"""


@dataclass(frozen=True)
class WriteReport:
    """The effect of a write, per partition and per symbol."""

    partitions: tuple[PartitionWrite, ...]
    changes: dict[str, Changes]
    quarantined: tuple[QuarantinedBar, ...]
    replaced: tuple[AlteredBar, ...] = ()
    """final bars that were restated or that the vendor no longer sends, as they were before"""
    former: dict[str, date] = field(default_factory=dict)
    """tickers whose bars before a day were found to be a former owner's"""
    problems: tuple[str, ...] = ()
    """answers that were not believed"""


@dataclass(frozen=True, slots=True)
class _Read:
    """The answer of one GET; None means that there is no object."""

    object: StoredObject | None


class BarPartitions:
    """The partitions of one lake: read, merge, conditional write."""

    def __init__(self, settings: Settings, objects: S3Objects) -> None:
        self._settings = settings
        self._objects = objects
        self._feeds: dict[str, str] = {}
        self._read_ahead_of: dict[Partition, _Read] = {}
        self.recent: pa.Table = BAR_SCHEMA.empty_table()
        """the last RECENT of bars of the partition that was written last"""
        self.renamed: Mapping[Rename, list[str]] = {}
        """renames, and what the company was called since: its bars are stored once"""
        self.actions_version = 0
        """of the corporate actions that the next bars come after; what is met in a partition raises it"""

    def stored(self, timeframe: str = "1Day") -> list[Partition]:
        """List the partitions, oldest first, in one request per 1,000."""
        years = (keys.year_of(key, timeframe) for key in self._objects.keys(keys.partitions(timeframe)))
        return [Partition(timeframe, year) for year in years if year is not None]

    def write(
        self, table: pa.Table, timeframe: str, feed: str, run_id: str, answered: Answered | None = None
    ) -> WriteReport:
        """Merge bars in INCOMING_SCHEMA, as `MarketDataStore.write_bars` says.

        Args:
            answered: what the bars are all of, so that stored ones which are not among them have left.
        """
        try:
            checked = check_bars(table)
        except (KeyError, pa.ArrowInvalid, pa.ArrowNotImplementedError) as problem:
            raise BadParameter(
                f"not a table of bars: {problem}; its columns are {', '.join(table.column_names)}"
            ) from problem
        writes = []
        altered: list[AlteredBar] = []
        former: dict[str, date] = {}
        problems: list[str] = []
        arrived = pa.table({"symbol": table["symbol"], "date": session_dates(table)})
        changes: dict[str, Changes] = defaultdict(Changes)
        for year, bars in by_year(checked.bars, checked.bars["date"]):
            partition = Partition(timeframe, year)
            write, changes_of_year, replaced, departures = self._merge_into(
                partition, bars, feed, run_id, arrived, answered
            )
            writes.append(write)
            altered += replaced
            former |= departures.former
            problems += [f"{partition.key}: {departures.problem}"] if departures.problem else []
            for symbol, change in changes_of_year.items():
                changes[symbol] += change
        if former:
            writes += self._relabel(timeframe, former)
        return WriteReport(tuple(writes), dict(changes), checked.quarantined, tuple(altered), former, tuple(problems))

    def _relabel(self, timeframe: str, former: Mapping[str, date]) -> list[PartitionWrite]:
        """Give a former owner's bars of all years their own name."""

        def change(stored: pa.Table | None, _: Overrides) -> MergedPartition | None:
            return relabelled(stored, former)

        newest = max(former.values()).year
        older = [partition for partition in self.stored(timeframe) if partition.year <= newest]
        return [self._rewrite(partition, change, None, "former") for partition in older]

    def drop(self, symbols: list[str], timeframe: str) -> WriteReport:
        """Remove every bar of these symbols, partition by partition."""

        def others_of(stored: pa.Table | None, _: Overrides) -> MergedPartition | None:
            if stored is None:
                return None
            others = stored.filter(pc.invert(pc.is_in(stored["symbol"], pa.array(symbols, pa.string()))))
            return MergedPartition(others) if others.num_rows < stored.num_rows else None

        writes = tuple(self._rewrite(partition, others_of, None, "drop") for partition in self.stored(timeframe))
        return WriteReport(writes, {}, ())

    def require_feed(self, feed: str, timeframe: str) -> None:
        """Raise FeedMismatch if the newest partition holds another feed's bars, UnsafeStore in a new lake."""
        if partitions := self.stored(timeframe):
            self._refuse_other_feed(feed, self._feed_of(partitions[-1]))
        elif not self._settings.single_writer:
            self._objects.require_conditions()

    def recent_symbols(self, first: date, last: date) -> list[str]:
        """List symbols with a bar in these days; writes reuse the reads."""
        symbols: set[str] = set()
        for year in range(first.year, last.year + 1):
            partition = Partition("1Day", year)
            # the write's condition is this read's ETag
            read = self._read_ahead_of[partition] = _Read(self._objects.get(partition.key))
            bars = self._decode(partition, read.object)[0]
            if bars is not None:
                in_range = pc.and_(pc.greater_equal(bars["date"], first), pc.less_equal(bars["date"], last))
                symbols.update(pc.unique(bars.filter(in_range)["symbol"]).to_pylist())
        return sorted(symbols)

    def _merge_into(
        self,
        partition: Partition,
        bars: pa.Table,
        feed: str,
        run_id: str,
        arrived: pa.Table,
        answered: Answered | None,
    ) -> tuple[PartitionWrite, dict[str, Changes], tuple[AlteredBar, ...], Departures]:
        changes: dict[str, Changes] = {}
        replaced: tuple[AlteredBar, ...] = ()
        departures = Departures()

        def merge(stored: pa.Table | None, overrides: Overrides) -> MergedPartition | None:
            nonlocal changes, replaced, departures
            counting, noted = applied(bars, overrides) if overrides else (bars, {})
            rows = 0 if stored is None else stored.num_rows
            company = OneCompany.of(stored, counting, self.renamed)
            merged = merge_bars(company.stored, company.incoming)
            changes = merged.changes
            if answered:
                merged, departures = without_departed(merged, arrived, answered)
            replaced = (*company.left, *merged.replaced)
            if not merged.changed and merged.bars.num_rows == rows and noted == overrides and not departures.former:
                return None
            return replace(merged, labels={LABEL: encoded(noted)}) if noted else merged

        return self._rewrite(partition, merge, feed, run_id), changes, replaced, departures

    def override(self, override: BarOverride) -> None:
        """Let a person's word about one bar count, from now on through every refresh.

        Raises:
            BadParameter: no bar of that session is stored, or the bar that it makes cannot be one.
        """

        def change(stored: pa.Table | None, overrides: Overrides) -> MergedPartition:
            before = overrides.get(override.key)
            bars = stored if stored is not None else BAR_SCHEMA.empty_table()
            here = pc.and_(pc.equal(bars["symbol"], override.symbol), pc.equal(bars["date"], override.session))
            vendor = before.vendor if before else next(iter(bars.filter(here).to_pylist()), None)
            if vendor is None:
                raise BadParameter(
                    f"no bar of {override.symbol} on {override.session} is stored: nothing was overridden; to see what "
                    f"is: alchemiser-duck bars {override.symbol}"
                )
            noted = replace(override, vendor=vendor)
            require_sound(noted)
            return _with_bar(bars, noted.key, noted.bar(), {**overrides, noted.key: noted})

        self._rewrite(Partition("1Day", override.session.year), change, None, "override")

    def restore(self, symbol: str, day: date) -> None:
        """Take an override back: the vendor's bar counts again.

        Raises:
            BadParameter: there is none.
        """

        def change(stored: pa.Table | None, overrides: Overrides) -> MergedPartition:
            override = overrides.get((symbol, day))
            if override is None or stored is None:
                raise BadParameter(
                    f"the bar of {symbol} on {day} is not overridden; to see what is: alchemiser-duck bars overrides"
                )
            others = {key: other for key, other in overrides.items() if key != override.key}
            return _with_bar(stored, override.key, override.vendor, others)

        self._rewrite(Partition("1Day", day.year), change, None, "restore")

    def _rewrite(self, partition: Partition, change: Change, feed: str | None, run_id: str) -> PartitionWrite:
        """Change a partition, again as often as another writer is faster."""
        write_id = uuid.uuid4().hex
        rows = 0

        def step(attempt: int) -> PartitionWrite:
            nonlocal rows
            before = self._read_ahead_of.pop(partition, None) or _Read(self._objects.get(partition.key))
            stored, labels = self._decode(partition, before.object)
            etag = before.object.etag if before.object else None
            self.actions_version = max(self.actions_version, int(labels.get(ACTIONS_VERSION, 0)))
            del before  # its bytes: a large partition is in memory once, decoded
            if labels.get("write_id") == write_id:
                return PartitionWrite(partition, True, rows, attempt)  # our PUT had arrived, only its answer was lost
            stored_feed = labels.get("feed") or self._feed_around(partition)
            self._refuse_other_feed(feed, stored_feed)
            rows = 0 if stored is None else stored.num_rows
            after = change(stored, decoded(labels.get(LABEL)))
            self.recent = _last_bars(stored if after is None else after.bars)
            del stored
            if after is None:
                return PartitionWrite(partition, False, rows, attempt)
            rows = after.bars.num_rows
            kept = {LABEL: labels[LABEL]} if LABEL in labels else {}
            labels = {**kept, **after.labels, "schema_version": SCHEMA_VERSION, "run_id": run_id, "write_id": write_id}
            labels[ACTIONS_VERSION] = str(self.actions_version)
            labels["feed"] = self._feeds[partition.timeframe] = feed or stored_feed or self._settings.feed
            self._objects.put(partition.key, _encode(after.bars, labels), replaces=etag)
            return PartitionWrite(partition, True, rows, attempt, is_new=etag is None)

        return self._objects.until_written(partition.key, step)

    def _feed_around(self, partition: Partition) -> str | None:
        """Return the lake's feed as seen before, or in the year before."""
        return self._feeds.get(partition.timeframe) or self._feed_of(replace(partition, year=partition.year - 1))

    def _feed_of(self, partition: Partition) -> str | None:
        """Read a partition's feed; None means no partition, or another's."""
        end = self._objects.get_end(partition.key, FOOTER_BYTES)
        if not end:
            return None
        try:
            feed = _labels(pq.read_schema(pa.BufferReader(end))).get("feed")
        except (pa.ArrowException, OSError):
            return None  # whoever writes to it gets the error
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
        """Read the bars and the labels of a stored partition.

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


def _last_bars(bars: pa.Table | None) -> pa.Table:
    if bars is None or not bars.num_rows:
        return BAR_SCHEMA.empty_table()
    return bars.filter(pc.greater(bars["date"], pc.max(bars["date"]).as_py() - RECENT))


def _with_bar(
    bars: pa.Table, key: tuple[str, date], bar: dict[str, Any] | None, overrides: Overrides
) -> MergedPartition:
    """Put a bar in its place, and note the overrides; None means the bar is left out."""
    rows = pa.Table.from_pylist([bar] if bar else [], schema=BAR_SCHEMA)
    merged = pa.concat_tables([without(bars, [key]), rows])
    by_symbol = merged.sort_by([("symbol", "ascending"), ("timestamp", "ascending")])
    return MergedPartition(by_symbol, labels={LABEL: encoded(overrides)})


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
