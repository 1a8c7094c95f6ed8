"""Merge bars into a partition, and quarantine unsound ones.

Pure: Arrow tables in, Arrow tables out; no S3, no clock. The rules are SQL.
"""

import atexit
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from alchemiser_duck.bars import AlteredBar, QuarantinedBar
from alchemiser_duck.lake.scratch import ScratchFolder, remove_abandoned

BAR_SCHEMA = pa.schema(
    [
        pa.field("symbol", pa.string(), nullable=False),
        pa.field("date", pa.date32(), nullable=False),
        pa.field("timestamp", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("open", pa.float64(), nullable=False),
        pa.field("high", pa.float64(), nullable=False),
        pa.field("low", pa.float64(), nullable=False),
        pa.field("close", pa.float64(), nullable=False),
        pa.field("vwap", pa.float64()),
        pa.field("volume", pa.int64(), nullable=False),
        pa.field("trade_count", pa.int64()),
        pa.field("is_final", pa.bool_(), nullable=False),
    ]
)
"""A stored daily bar. USD per share, shares; date: the session in New York."""

INCOMING_SCHEMA = pa.schema([pa.field(f.name, f.type) for f in BAR_SCHEMA if f.name != "date"])
"""A bar on its way in: the session is derived from the timestamp, so that the two cannot disagree."""

MERGE_MEMORY = "600MB"
"""DuckDB's limit beside the Arrow tables themselves: keeps 11,000 symbols within 2 GiB in all."""


@dataclass(frozen=True, slots=True)
class Changes:
    """Counts of one symbol's bars that a merge touched."""

    added: int = 0
    finalised: int = 0
    """provisional bars replaced by their final version"""
    restated: int = 0
    """bars whose values the vendor changed"""
    unchanged: int = 0

    @property
    def any(self) -> bool:
        """Return whether a bar changed."""
        return bool(self.added or self.finalised or self.restated)

    def __add__(self, other: "Changes") -> "Changes":
        return Changes(
            self.added + other.added,
            self.finalised + other.finalised,
            self.restated + other.restated,
            self.unchanged + other.unchanged,
        )


@dataclass(frozen=True)
class CheckedBars:
    """Sound bars, one per symbol and session; and the others."""

    bars: pa.Table
    quarantined: tuple[QuarantinedBar, ...]


@dataclass(frozen=True)
class MergedPartition:
    """A partition after a merge, sorted by symbol and timestamp."""

    bars: pa.Table
    changes: dict[str, Changes] = field(default_factory=dict)
    replaced: tuple[AlteredBar, ...] = ()
    """final bars that the vendor has restated, as they were"""
    labels: dict[str, str] = field(default_factory=dict)
    """metadata of the partition that changes with its bars"""

    @property
    def changed(self) -> bool:
        """Return whether the partition differs from the stored one."""
        return any(changes.any for changes in self.changes.values())


_JUDGE = """
create temporary view judged as

select
    *,
    case
        when symbol is null or trim(symbol) = '' then 'the symbol is missing'
        when timestamp is null then 'the timestamp is missing'
        when not coalesce(isfinite(open) and isfinite(high) and isfinite(low) and isfinite(close), false)
            then 'a price is missing or not finite'
        when least(open, high, low, close) <= 0 then 'a price is not above zero'
        -- beyond it factors and logarithms would be 0 or without bound
        when least(open, high, low, close) < 1e-9 or greatest(open, high, low, close) > 1e15
            then 'a price is not believed: 1e-9 to 1e15 USD are'
        when high < low then 'high is below low'
        when volume is null or volume < 0 then 'volume is missing or negative'
        when is_final is null then 'is_final is missing'
    end as reason

from incoming
"""

_VALUES = ", ".join(f"{name} := {name}" for name in ("open", "high", "low", "close", "vwap", "volume", "trade_count"))

REPLACED_KEPT = 100_000
"""Bars of one year that a run restates and whose values before are written down; a whole restated lake has more."""

_UNSOUND = "select count(*) from judged where reason is not null"

_STEPS_BACK = """
select count(*)

from (
    select
        symbol,
        date,
        lag(symbol) over () as symbol_before,
        lag(date) over () as date_before

    from incoming
)

where symbol < symbol_before
    or (symbol = symbol_before and date <= date_before)
"""

_SESSIONS_TWICE = """
select count(*) > count(distinct (symbol, date))

from judged

where reason is null
"""

_KEEP_THE_LAST = """
create temporary table settled as

with

arrived as (

    select
        *,
        row_number() over () as arrival

    from judged

)

select
    * exclude (reason),
    case
        when reason is not null then reason
        when lead(arrival) over same_session is null then null
        when
            (timestamp, open, high, low, close, vwap, volume, trade_count, is_final)
            is distinct from
            lead((timestamp, open, high, low, close, vwap, volume, trade_count, is_final)) over same_session
            then 'a later bar of the same session came with it'
        else 'repeated'
    end as reason

from arrived

window same_session as (partition by symbol, date, reason is null order by arrival)
"""

_DECIDE = """
create temporary view decided as

select
    new.*,
    case
        when old.symbol is null then 'added'
        when old.is_final and not new.is_final then 'unchanged'  -- a provisional bar never replaces a final one
        when new.is_final and not old.is_final then 'finalised'
        when
            (new.timestamp, new.open, new.high, new.low, new.close, new.vwap, new.volume, new.trade_count)
            is distinct from
            (old.timestamp, old.open, old.high, old.low, old.close, old.vwap, old.volume, old.trade_count)
            then 'restated'
        else 'unchanged'
    end as change

from accepted as new

left join stored as old on new.symbol = old.symbol and new.date = old.date
"""

_MERGE = """
with

taken as (

    select * exclude (change)

    from decided

    where change <> 'unchanged'

),

kept as (

    select stored.*

    from stored

    anti join taken on stored.symbol = taken.symbol and stored.date = taken.date

)

from taken

union all by name

from kept

order by symbol, timestamp
"""


_REPLACED = f"""
select
    stored.symbol,
    stored.timestamp,
    'restated by the vendor',
    to_json(struct_pack({_VALUES}))::varchar

from stored

semi join (from decided where change = 'restated') as restated
    on stored.symbol = restated.symbol and stored.date = restated.date

order by stored.symbol, stored.timestamp

limit {REPLACED_KEPT}
"""


def session_dates(bars: pa.Table) -> pa.ChunkedArray:
    """Return each bar's session: the day of its timestamp in New York."""
    in_new_york = pc.cast(bars["timestamp"], pa.timestamp("us", tz="America/New_York"))
    return pc.cast(pc.local_timestamp(in_new_york), pa.date32())


def by_year(bars: pa.Table, dates: pa.ChunkedArray) -> Iterator[tuple[int, pa.Table]]:
    """Yield bars year by year; a single year is not copied."""
    years = pc.year(dates)
    distinct = sorted(pc.unique(years).to_pylist())
    for year in distinct:
        yield year, bars.filter(pc.equal(years, year)) if len(distinct) > 1 else bars


@cache
def _database(process: int) -> duckdb.DuckDBPyConnection:  # noqa: ARG001 (a fork opens its own)
    """Open the process's DuckDB for merges, which spills to disk."""
    remove_abandoned()
    scratch = ScratchFolder()
    atexit.register(scratch.remove)
    con = duckdb.connect(
        ":memory:", config={"memory_limit": MERGE_MEMORY, "temp_directory": str(scratch.path / "spilled")}
    )
    con.execute("set global timezone = 'UTC'")
    return con


def _connect() -> duckdb.DuckDBPyConnection:
    """Open a connection for one merge; its tables go when it closes."""
    return _database(os.getpid()).cursor()


def _first_value(con: duckdb.DuckDBPyConnection, query: str) -> int:
    return int(con.execute(query).fetchall()[0][0])


def _columns(schema: pa.Schema) -> str:
    return ", ".join(schema.names)


def check_bars(incoming: pa.Table) -> CheckedBars:
    """Separate the sound bars from the others.

    A bar is sound when its prices are from 1e-9 to 1e15, low <= high and volume >= 0. Open and close may lie
    outside low and high, as they do on thin days. Of two sound bars of one session the one that arrived last stays; if
    they differ, the earlier one is reported.

    Args:
        incoming: columns of INCOMING_SCHEMA, in order of arrival.

    Returns:
        bars in BAR_SCHEMA, in no particular order; empty where none is sound.
    """
    bars = _without_impossible_extras(incoming.select(INCOMING_SCHEMA.names).cast(INCOMING_SCHEMA))
    bars = bars.append_column("date", session_dates(bars))
    with _connect() as con:
        con.register("incoming", bars)
        con.execute(_JUDGE)
        # bars mostly come by symbol and session, each once: to hash all sessions takes four times as long
        if not _first_value(con, _UNSOUND) and not (
            _first_value(con, _STEPS_BACK) and _first_value(con, _SESSIONS_TWICE)
        ):
            return CheckedBars(bars.select(BAR_SCHEMA.names).cast(BAR_SCHEMA), ())  # the daily case: no copy
        con.execute(_KEEP_THE_LAST)
        sound = con.sql(f"select {_columns(BAR_SCHEMA)} from settled where reason is null").to_arrow_table()
        rows = con.execute(
            f"select symbol, timestamp, reason, to_json(struct_pack({_VALUES}))::varchar from settled "
            "where reason is not null and reason <> 'repeated' order by symbol, timestamp, arrival"
        ).fetchall()
    return CheckedBars(
        bars=sound.cast(BAR_SCHEMA),
        quarantined=tuple(QuarantinedBar(symbol or "?", *row) for symbol, *row in rows),
    )


def _without_impossible_extras(bars: pa.Table) -> pa.Table:
    """Make a vwap that is no price null, and a negative count of trades: a bar can be without them."""
    vwap, trades = bars["vwap"], bars["trade_count"]
    is_price = pc.and_(pc.is_finite(vwap), pc.greater(vwap, 0))
    for name, sound in (("vwap", is_price), ("trade_count", pc.greater_equal(trades, 0))):
        if not pc.all(sound, skip_nulls=True).as_py():
            place = bars.schema.get_field_index(name)
            kept = pc.if_else(sound, bars[name], pa.scalar(None, bars.schema.field(name).type))
            bars = bars.set_column(place, bars.schema.field(name), kept)
    return bars


def merge_bars(stored: pa.Table | None, accepted: pa.Table) -> MergedPartition:
    """Merge accepted bars into the stored partition.

    A bar of a session that is not stored yet is added. A final bar replaces a provisional one; otherwise a bar replaces
    the stored one when a value differs, unless that would replace a final bar by a provisional one.

    Args:
        stored: the partition as it is, in BAR_SCHEMA; None means that there is none.
        accepted: sound bars, at most one per symbol and session, in BAR_SCHEMA.
    """
    with _connect() as con:
        con.register("accepted", accepted)
        if stored is None:
            counts = con.execute("select symbol, count(*) from accepted group by symbol order by symbol").fetchall()
            bars = con.sql(f"select {_columns(BAR_SCHEMA)} from accepted order by symbol, timestamp").to_arrow_table()
            return MergedPartition(bars.cast(BAR_SCHEMA), {symbol: Changes(added=added) for symbol, added in counts})
        con.register("stored", stored)
        con.execute(_DECIDE)
        counts = con.execute(
            "select symbol, count(*) filter (change = 'added'), count(*) filter (change = 'finalised'), "
            "count(*) filter (change = 'restated'), count(*) filter (change = 'unchanged') "
            "from decided group by symbol order by symbol"
        ).fetchall()
        changes = {symbol: Changes(*numbers) for symbol, *numbers in counts}
        if not any(change.any for change in changes.values()):
            return MergedPartition(stored, changes)
        bars = con.sql(f"select {_columns(BAR_SCHEMA)} from ({_MERGE})").to_arrow_table()
        replaced = con.execute(_REPLACED).fetchall() if any(change.restated for change in changes.values()) else ()
    return MergedPartition(bars.cast(BAR_SCHEMA), changes, tuple(AlteredBar(*row) for row in replaced))
