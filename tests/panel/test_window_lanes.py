"""Windows in lanes give the values of DuckDB's windows."""

import duckdb
import pyarrow as pa
import pytest
from bar_cases import panel_in_lanes
from hypothesis import given, settings
from hypothesis import strategies as st
from own_panels import as_it_stands, assert_same, own

from alchemiser_duck.query.catalogue import built_in_files

LENGTHS = st.lists(st.integers(1, 45), min_size=1, max_size=7)
AGGREGATES = ["sum", "avg", "min", "max", "count", "stddev_pop", "stddev_samp", "var_pop", "var_samp"]
COLUMNS = ["close", "gappy", "change", "change_of_gappy", "volume", "gain", "step", "level"]
GUARDS = [
    "{value}",
    "case when bar >= {bars} then {value} end",
    "case when bar > {bars} then nan_as_null({value}) end",
    "case when bar <= {bars} then null else 2 * {value} end",
    "case when bar < {bars} then -1 when bar > 30 then 0 else {value} end",
    "case when seen = {seen} then {value} end",
    "case when seen >= {seen} and close > 0 then {value} end",
    "case when bar >= {bars} then sqrt(abs({value})) + {value} end",
]
IN_ORDER = "partition by symbol order by timestamp"


@pytest.fixture(scope="module")
def con() -> duckdb.DuckDBPyConnection:
    con = duckdb.connect(":memory:", config={"threads": 2})
    con.execute("set timezone = 'UTC'")
    for file in built_in_files():
        if file.is_function:
            con.execute(file.text)
    return con


def fill(con: duckdb.DuckDBPyConnection, lengths: list[int], holes: list[int]) -> None:
    """Make `cut`, where a value of the next symbol stands out.

    Neighbours differ a hundredfold.
    """
    con.register("lengths", pa.table({"number": range(len(lengths)), "length": lengths}))
    con.register("holes", pa.table({"hole": pa.array(holes, pa.int64())}))
    con.execute(
        """
        create or replace table cut as select 'S' || number as symbol,
            timestamptz '2020-01-01' + to_days(bar::integer) as timestamp,
            (1 + hash(number * 1000 + bar) % 1000 / 1000) * 100 ** (number % 3) as close,
            case when bar % 11 not in (select hole from holes) then close end as gappy,
            (hash(bar * 77 + number) % 1000)::bigint as volume
        from (select number, unnest(range(length)) as bar from lengths) order by hash(bar), symbol
        """
    )


@settings(max_examples=60, deadline=None)
@given(
    lengths=LENGTHS,
    holes=st.lists(st.integers(0, 10), max_size=3),
    aggregates=st.lists(
        st.tuples(
            st.sampled_from(AGGREGATES),
            st.sampled_from(COLUMNS),
            st.integers(1, 24),
            st.integers(0, 6),
            st.sampled_from(GUARDS),
            st.integers(-3, 4),
        ),
        min_size=1,
        max_size=3,
    ),
    lag=st.integers(0, 13),
)
def test_lanes_give_what_windows_give(
    con: duckdb.DuckDBPyConnection,
    lengths: list[int],
    holes: list[int],
    aggregates: list[tuple[str, str, int, int, str, int]],
    lag: int,
) -> None:
    fill(con, lengths, holes)
    windowed, guarded, again = [], [], []
    for number, (aggregate, x, rows, shift, guard, off) in enumerate(aggregates):
        frame = f"({IN_ORDER} rows between {rows + shift - 1} preceding and {shift} preceding)"
        windowed += [f"{aggregate}({x}) over {frame} as value_{number}", f"count({x}) over {frame} as seen_{number}"]
        text = guard.replace("seen", f"seen_{number}").format(
            value=f"value_{number}", bars=max(0, rows + shift + off), **{f"seen_{number}": max(0, rows + min(0, off))}
        )
        guarded.append(f"{text} as given_{number}")
        again.append(f"given_{number}, avg(given_{number}) over ({IN_ORDER} rows {lag} preceding) as mean_{number}")
    body = f"""
        with numbered as (
            select *, row_number() over ({IN_ORDER}) as bar, close / lag(close) over ({IN_ORDER}) - 1 as change,
                gappy - lag(gappy, 5) over ({IN_ORDER}) as change_of_gappy, lag(close, 3) over ({IN_ORDER}) as before
            from SOURCE
        ),
        formulas as (
            select *, case when change > 0 then change else 0 end as gain, snapped(close, before) as level,
                difference(close, before) as step
            from numbered
        ),
        windowed as (select symbol, timestamp, bar, close, {", ".join(windowed)} from formulas),
        guarded as (select symbol, timestamp, close, {", ".join(guarded)} from windowed)
        select symbol, timestamp, {", ".join(again)}, lag(close, {lag}) over ({IN_ORDER}) as before from guarded
    """
    entry = own(con, body, 5)
    in_lanes = panel_in_lanes(con, [entry], "cut")
    assert in_lanes is not None
    assert_same(in_lanes, as_it_stands(con, entry))


def test_histories_longer_than_a_lag_reaches(con: duckdb.DuckDBPyConnection) -> None:
    """A value farther back than DuckDB streams takes several lags."""
    fill(con, [30, 21_000, 9_000], [3])
    body = f"""
        with numbered as (select *, row_number() over ({IN_ORDER}) as bar from SOURCE),
        weighted as (select *, wilder_weights(bar, 900) as weights from numbered)
        select symbol, timestamp, lag(close, 8999) over ({IN_ORDER}) as before,
            avg(gappy) over ({IN_ORDER} rows 9998 preceding) as mean, max(close) over ({IN_ORDER}) as highest,
            sum(volume) over ({IN_ORDER} rows between 12000 preceding and 8500 preceding) as volume_then,
            case when bar > 8888 then stddev_pop(close) over ({IN_ORDER} rows 8887 preceding) end as deviation,
            case when bar >= 900 then wilder_average(close, weights, 900) end as smooth
        from weighted
    """
    entry = own(con, body, 5)
    in_lanes = panel_in_lanes(con, [entry], "cut")
    assert in_lanes is not None
    assert_same(in_lanes, as_it_stands(con, entry))
