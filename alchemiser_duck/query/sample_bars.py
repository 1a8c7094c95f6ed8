"""Make sample bars to try a user's indicator on, without a lake.

They are the same on every machine. Prices wander from 50 USD along a trend and volumes vary, all of it from a hash.
"""

import math
from collections.abc import Sequence
from datetime import date, timedelta
from typing import NamedTuple

import duckdb

from alchemiser_duck.query.catalogue import built_in_files, sql_root
from alchemiser_duck.query.literals import literal

_LAST_DAY = date(2025, 1, 31)
_SAMPLE_BARS = """
create or replace table sample_bars as

with

days as (

    select
        cast(day as date) as date,
        row_number() over (order by day) as number

    from range({first_day}, {last_day}, interval 1 day) as days(day)

    where isodow(day) < 6

),

steps as (

    select
        symbol,
        trend,
        tick,
        case when (select max(number) from days) - number = spike_age then spike else 1 end as spike,
        date,
        number,
        hash(symbol || number) % 2001 / 1000.0 - 1 as step

    from days

    join (values {symbols}) as symbols(symbol, first_number, last_number, trend, tick, spike_age, spike)
        on number between first_number and last_number

),

closes as (

    select
        symbol,
        date,
        number,
        spike,
        spike * coalesce(greatest(round(wandered / tick) * tick, tick), wandered) as close

    from (
        select
            *,
            50 * exp(trend * number + 0.02 * sum(step) over (partition by symbol order by number)) as wandered
        from steps
    )

)

select
    symbol,
    date,
    cast(date + interval 5 hour as timestamp) at time zone 'UTC' as timestamp,
    close * 0.999 as open,
    close * 1.01 as high,
    close * 0.99 as low,
    close,
    close * 1.001 as vwap,
    cast(spike * (hash(number) % 1000000) as bigint) as volume,
    cast(100 as bigint) as trade_count,
    true as is_final

from closes
"""
_SAMPLE_VIEWS = {
    "bars_raw": "select * from sample_bars where getvariable('as_of') is null or date <= getvariable('as_of')::date",
    "corporate_actions": "select * from no_actions",
}
"""Stand-ins for the relations that read the lake."""


class SampleSymbol(NamedTuple):
    """A symbol with bars on some weekdays, counted from 1."""

    name: str
    first: int = 1
    last: int = 1_000_000
    trend: float = 0.002
    """of the logarithm of its close, per bar"""
    tick: float | None = None
    """what its closes are multiples of: a wide one makes ties and rests"""
    spike_age: int | None = None
    """bars after the one whose prices and volume are multiplied by `spike`"""
    spike: float = 1


USUAL_SYMBOLS = (SampleSymbol("LONG"), SampleSymbol("SHORT", first=300), SampleSymbol("ONCE", first=400, last=400))
"""435 bars, 136 and a single one."""


def telling_symbols(look_back: int) -> list[SampleSymbol]:
    """Return symbols that a value tells apart if it depends on more bars than these before its own.

    Some rise and some fall, so that extremes lie at either end of a window; some wander, for conditions that are about
    to change; some rest; and some had a spike just before these bars: a condition shows that, too.
    """
    trends = [SampleSymbol(f"S{number:02}", trend=0.002 * (-1) ** number) for number in range(16)]
    wandering = [SampleSymbol(f"W{number:02}", trend=0) for number in range(16)]
    resting = [SampleSymbol(f"R{number:02}", trend=0, tick=1) for number in range(16)]
    spikes = [
        SampleSymbol(f"X{age:02}{kind}{number}", trend=0, spike_age=look_back + age, spike=spike)
        for age in (1, 2, 3, 5, 8, 13, 21, 34)
        for kind, spike in (("UP", 50.0), ("DOWN", 0.02))
        for number in range(2)
    ]
    return [*trends, *wandering, *resting, *spikes]


def sample_layer() -> duckdb.DuckDBPyConnection:
    """Open a DuckDB with the whole layer over sample bars alone."""
    con = duckdb.connect(":memory:")
    con.execute("set timezone = 'UTC'")
    con.execute(f"set variable market_data = {literal(str(sql_root() / 'empty_lake'))}")
    make_sample_bars(con, 435, USUAL_SYMBOLS)
    for file in built_in_files():
        con.execute(file.text)
        if file.name == "corporate_actions":
            con.execute("create table no_actions as from corporate_actions")
    for name, query in _SAMPLE_VIEWS.items():
        con.execute(f"create or replace view {name} as {query}")
    con.execute("set enable_external_access = false")
    return con


def make_sample_bars(con: duckdb.DuckDBPyConnection, bars: int, symbols: Sequence[SampleSymbol]) -> None:
    """Replace the sample bars by so many weekdays of some symbols."""
    first_day = _LAST_DAY - timedelta(days=math.ceil(bars * 7 / 5))
    listed = ", ".join("({})".format(", ".join(map(literal, symbol))) for symbol in symbols)
    con.execute(_SAMPLE_BARS.format(first_day=literal(first_day), last_day=literal(_LAST_DAY), symbols=listed))


def keep_newest_bars(con: duckdb.DuckDBPyConnection, bars: int) -> None:
    """Drop all but each symbol's newest sample bars, so many of them."""
    con.execute(
        "create or replace table sample_bars as from sample_bars "
        f"qualify row_number() over (partition by symbol order by timestamp desc) <= {bars}"
    )
