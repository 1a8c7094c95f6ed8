"""A user's own indicators in a panel: taken apart where that is known to be the same, and else run as they stand."""

from pathlib import Path

import duckdb
import pytest
from bar_cases import awkward_bars, bar_relation, panel_in_lanes
from conftest import MORNING
from own_panels import as_it_stands, assert_same, own

from alchemiser_duck import CachedMarketDataAdapter, Settings
from alchemiser_duck.errors import BadParameter
from alchemiser_duck.lake.scan import FEW_SYMBOLS
from alchemiser_duck.panel.plan import newest_panel, panel
from alchemiser_duck.query.catalogue import built_in_files

pytestmark = pytest.mark.usefixtures("both_ways")

BY_LANES = {
    "a row by itself": """select symbol, timestamp, open / close as a, abs(close - open) as b, sign(close - open) as c,
        floor(close) as d, volume % 7 as e, volume // 1000 as f, close ^ 2 as g, -close + 1 - 2 * 3 as h,
        close between 1 and 50 as i, nullif(volume, 1000) is null as j, case when close > open then 'up' end as k,
        cast(close as decimal(18, 4)) as l, coalesce(high, low) as m, greatest(open, close) as n, date as o,
        not close > open or close = open and volume > 5 as p from SOURCE""",
    "returns and means": """select symbol, timestamp, close / lag(close) over w - 1 as a,
        close / lag(close, 20) over w as b, avg(close) over last_n as c,
        stddev_samp(close) over last_n as d, volume / avg(volume) over last_n as e,
        stddev_pop(volume) over last_n / avg(volume) over last_n as f
        from SOURCE window w as (partition by symbol order by timestamp),
        last_n as (partition by symbol order by timestamp rows n - 1 preceding)""",
    "whole numbers": """select symbol, timestamp, sum(volume) over w as a, count(*) over w as b,
        max(volume) over w as c, sum(case when close > open then 1 else 0 end) over w as d,
        min(date) over w as e, variance(volume) over w as f,
        count(case when close > open then 1 end) over w as g, row_number() over (partition by symbol order by timestamp)
        as h, sum(case when close > open then 0.5 end) over w as i, lag(volume, 2) over w as j from SOURCE
        window w as (partition by symbol order by timestamp rows between n preceding and current row)""",
    "other types": """select symbol, timestamp, max(close > open) over w as a, sum(close::decimal(18, 2)) over w as b,
        lag(case when close > open then 'up' else 'down' end) over w as c, avg(volume % 3) over w as d
        from SOURCE window w as (partition by symbol order by timestamp rows between n preceding and current row)""",
    "one on the other": """with a as (select symbol, timestamp, avg(close) over (partition by symbol order by timestamp
        rows n preceding) as m from SOURCE), b as (select symbol, timestamp, stddev_pop(m) over (partition by symbol
        order by timestamp rows 9 preceding) as s, lag(m, 3) over (partition by symbol order by timestamp) as l from a)
        select symbol, timestamp, s, l, s / l as r from b""",
    "names against parameters": """with a as (select symbol, timestamp, close as n, open as close, close + 1 as x
        from SOURCE) select Symbol, TIMESTAMP, n + 1 as A, x as "B", close from a""",
    "earlier frames": """select symbol, timestamp, max(high) over e as a, count(high) over e as b, avg(low) over e as c,
        var_pop(close) over e as d, min(close) over since as e from SOURCE
        window e as (partition by symbol order by timestamp rows between 2 * n preceding and n preceding),
        since as (partition by symbol order by timestamp rows unbounded preceding)""",
    "some of the rows": """select symbol, timestamp, sum(volume) filter (where close > open) over w as a,
        avg(close) filter (volume > 5e6) over w as b from SOURCE
        window w as (partition by symbol order by timestamp rows between n preceding and current row)""",
    "names given before": """with changes as (select bars.symbol, bars.timestamp, bars.close as price,
        price - lag(price) over (partition by symbol order by timestamp) as change, change * 2 as twice
        from SOURCE as bars), means as (select *, avg(change) over (partition by symbol order by timestamp
        rows n preceding) as mean from changes) select symbol, timestamp, mean, twice / price as a from means""",
    "a relation by name": """select symbol, timestamp, min(low) over (partition by symbol order by timestamp
        rows n preceding) as a from cut""",
    "what symbols are called": """select symbol, timestamp, symbol as a, case when symbol < 'm' then lag(close) over
        (partition by symbol order by timestamp) end as b, max(symbol) over (partition by symbol order by timestamp
        rows n preceding) as c from SOURCE""",
    "bounds of a parameter": """select symbol, timestamp, max(high) over (partition by symbol order by timestamp
        rows n preceding) as a from SOURCE
        where require_whole('own: n', n, 1) and require_between('own: n', n, 0, 99)""",
    "the layer's functions": """with numbered as (select symbol, timestamp, null_as_nan(high) as high, row_number() over
        (partition by symbol order by timestamp) as bar from SOURCE), weighted as (select *,
        ema_weights(bar, n + 1) as weights from numbered) select symbol, timestamp, case when bar > n then
        exponential_average(high, bar, weights, n + 1) end as a from weighted""",
}
BY_WINDOWS = {
    "a frame of all rows": "select symbol, timestamp, avg(close) over (partition by symbol) as a from SOURCE",
    "another order": """select symbol, timestamp, sum(volume) over (partition by symbol order by date desc
        rows n preceding) as a from SOURCE""",
    "a default": """select symbol, timestamp, lag(close, 1, 0) over (partition by symbol order by timestamp) as a
        from SOURCE""",
}
AS_THEY_STAND = {
    "across symbols": "select symbol, timestamp, avg(close) over (partition by timestamp) as a from SOURCE",
    "rows are left out": "select symbol, timestamp, close as a from SOURCE where volume > 0",
    "a condition on a parameter": "select symbol, timestamp, close as a from SOURCE where n > 100",
    "a bound and more": "select symbol, timestamp, close as a from SOURCE where require_whole('', n, 1) and volume > 5",
    "groups": "select symbol, max(timestamp) as timestamp, max(close) as a from SOURCE group by symbol",
    "one row of all": "select max(symbol) as symbol, max(timestamp) as timestamp, max(close) as a from SOURCE",
    "a join": """select b.symbol, b.timestamp, b.close - c.close as a from SOURCE as b join
        SOURCE as c using (symbol, timestamp)""",
    "renamed columns": """select symbol, timestamp, high as a from SOURCE as b(symbol, day, timestamp, high, open, low,
        close, vwap, volume, c1)""",
    "renamed columns of a step": """with b(symbol, timestamp, high, low) as (select symbol, timestamp, low, high
        from SOURCE) select symbol, timestamp, high as a from b""",
    "a sample": "select symbol, timestamp, high as a from cut tablesample 100 percent",
    "one name twice": """with b as (select symbol, timestamp, close, close + 1 as close from SOURCE)
        select symbol, timestamp, close as a from b""",
    "a name of the bars again": """with b as (select *, close * 2 as close from SOURCE)
        select symbol, timestamp, close as a from b""",
    "half the digits": """select symbol, timestamp, sum(close::float) over (partition by symbol order by timestamp) as a
        from SOURCE""",
    "distinct": "select distinct symbol, timestamp, close as a from SOURCE",
    "distinct values": """select symbol, timestamp, count(distinct volume) over (partition by symbol order by timestamp)
        as a from SOURCE""",
    "the last value there was": """select symbol, timestamp, last_value(close ignore nulls) over (partition by symbol
        order by timestamp) as a from SOURCE""",
    "a function nobody looked at": "select symbol, timestamp, log(close) as a from SOURCE",
    "a lambda": "select symbol, timestamp, list_transform([close], lambda x: x + 1)[1] as a from SOURCE",
    "a subquery": "select symbol, timestamp, close / (select max(close) from cut) as a from SOURCE",
    "a moved day": "select symbol, timestamp + interval 1 day as timestamp, close as a from SOURCE",
    "another name for a symbol": """with renamed as (select 'X' || symbol as symbol, timestamp, close from
        SOURCE) select symbol, timestamp, close as a from renamed""",
    "columns by pattern": "select symbol, timestamp, columns('open|close') from SOURCE",
    "columns left out": "with w as (select * exclude (open) from SOURCE) select symbol, timestamp, high from w",
    "a value without a name": "select symbol, timestamp, close * 2 from SOURCE",
    "a name as of ours": "select symbol, timestamp, c1 * 2 as a from SOURCE",
    "a union": """select symbol, timestamp, close as a from SOURCE where volume > 5 union all
        select symbol, timestamp, open from SOURCE where volume <= 5""",
}


@pytest.fixture(scope="module")
def con() -> duckdb.DuckDBPyConnection:
    """`cut`: bars of each kind, with values missing here and there."""
    con = duckdb.connect(":memory:", config={"threads": 2})
    cases = awkward_bars()
    bar_relation(con, "cases", {name: cases[name] for name in cases if name not in ("long", "tiny", "huge")})
    numbered = "select *, row_number() over (partition by symbol order by timestamp) as number from cases"
    holes = ", ".join(f"case when number % 97 > 0 then {name} end as {name}" for name in ("high", "volume"))
    con.execute(f"create table cut as select * exclude (number) replace ({holes}), close as c1 from ({numbered})")
    for file in built_in_files():
        if file.is_function:
            con.execute(file.text)
    return con


@pytest.mark.parametrize("n", [1, 5, 20])
@pytest.mark.parametrize("body", [*BY_LANES, *BY_WINDOWS])
def test_a_chain_is_taken_apart(con: duckdb.DuckDBPyConnection, body: str, n: int) -> None:
    """Types, nulls and values are those of the author's text; on all rows and on the newest."""
    one = own(con, (BY_LANES | BY_WINDOWS)[body], n)
    expected = as_it_stands(con, one)
    text = panel([one], "cut", [])
    assert "joined" not in text
    assert_same(con.sql(f"from ({text}) order by symbol, timestamp").to_arrow_table(), expected)
    in_lanes = panel_in_lanes(con, [one], "cut")
    assert (in_lanes is not None) == (body in BY_LANES)
    if in_lanes is not None:
        assert_same(in_lanes, expected)
    last = con.sql("from expected qualify row_number() over (partition by symbol order by timestamp desc) = 1")
    for symbols in (None, sorted(set(expected["symbol"].to_pylist()))):
        newest = con.sql(f"from ({newest_panel([one], 'cut', [], symbols)}) order by symbol").to_arrow_table()
        assert_same(newest, last.order("symbol").to_arrow_table())


@pytest.mark.parametrize("body", AS_THEY_STAND)
def test_anything_else_is_run_as_it_stands(con: duckdb.DuckDBPyConnection, body: str) -> None:
    one = own(con, AS_THEY_STAND[body], 5)
    assert "joined" in panel([one], "cut", [])
    assert panel_in_lanes(con, [one], "cut") is None


@pytest.mark.parametrize("ctes", [100, 450])
def test_long_chains_are_taken_apart_as_far_as_they_can_be(con: duckdb.DuckDBPyConnection, ctes: int) -> None:
    """Nested in each other as expressions; what is too deep for lanes goes by windows."""
    chain = ", ".join(
        f"a{number} as (select symbol, timestamp, {value} as x from {read})"
        for number, (value, read) in enumerate([("close", "SOURCE"), *(("x / 2 + 1", f"a{n}") for n in range(ctes))])
    )
    mean = "avg(x) over (partition by symbol order by timestamp rows 4 preceding) as mean"
    one = own(con, f"with {chain} select symbol, timestamp, {mean} from a{ctes}", 5)
    expected = as_it_stands(con, one)
    if ctes == 450 and duckdb.__version__.startswith("2"):
        pytest.skip("DuckDB 2 parses 1,000 levels at most: the adapter runs such an indicator as it stands")
    assert_same(con.sql(f"from ({panel([one], 'cut', [])}) order by symbol, timestamp").to_arrow_table(), expected)
    in_lanes = panel_in_lanes(con, [one], "cut")
    assert in_lanes is not None or ctes == 450
    if in_lanes is not None:
        assert_same(in_lanes, expected)


def with_own(settings: Settings, path: Path, text: str) -> CachedMarketDataAdapter:
    """An adapter of a user who has this one file."""
    path.write_text(text)
    return CachedMarketDataAdapter(settings.model_copy(update={"sql_dir": path.parent}), clock=lambda: MORNING)


def stored_symbols(adapter: CachedMarketDataAdapter) -> list[str]:
    return [symbol for (symbol,) in adapter.sql("select symbol from symbols order by symbol").fetchall()]


def test_what_fails_taken_apart_is_run_as_it_stands(stored_settings: Settings, tmp_path: Path) -> None:
    """A sum of truths is a number in DuckDB, but truths cannot be added."""
    adapter = with_own(
        stored_settings,
        tmp_path / "finals.sql",
        "-- finals: how many of the last bars are final.\n"
        "create or replace macro finals(n := 5, source := 'bars') as table (select symbol, timestamp, sum(is_final) "
        "over (partition by symbol order by timestamp rows n - 1 preceding) as finals from query_table(source))",
    )
    stored = stored_symbols(adapter)
    rows = adapter.indicator("finals", n=3)
    assert {row[0] for row in rows.fetchall()} == set(stored)
    assert rows.types[2] == "HUGEINT"
    by_name = adapter.indicator("finals", stored[:FEW_SYMBOLS], n=3)
    assert set(by_name.fetchall()) <= set(rows.fetchall())


def test_an_indicator_with_other_rows_than_the_bars_is_joined(stored_settings: Settings, tmp_path: Path) -> None:
    """Each day's row twice, and none of some days: beside what goes by lanes it is what it is by windows."""
    adapter = with_own(
        stored_settings,
        tmp_path / "twice.sql",
        "-- twice: the close, twice.\n"
        "create or replace macro twice(n := 5, source := 'bars') as table (select symbol, timestamp, close as twice "
        "from query_table(source) where close > n union all "
        "select symbol, timestamp, -close as twice from query_table(source))",
    )
    asked = {"twice": {"n": 20}, "sma": {"n": 3}}
    stored = stored_symbols(adapter)
    every = adapter.indicators_table(asked, start="2025-01-02")
    by_name = adapter.indicators_table(asked, stored[:FEW_SYMBOLS], start="2025-01-02")
    assert every.columns == by_name.columns == ["symbol", "timestamp", "twice", "sma"]
    assert every.types == by_name.types
    rows = by_name.fetchall()
    assert len(rows) > len({row[:2] for row in rows}) > 100
    got = [row for row in every.fetchall() if row[0] in stored[:FEW_SYMBOLS]]
    assert sorted(got) == [(*row[:3], pytest.approx(row[3], rel=1e-10)) for row in sorted(rows)]


def test_a_wrong_parameter_is_the_authors_error(stored_settings: Settings, tmp_path: Path) -> None:
    adapter = with_own(
        stored_settings,
        tmp_path / "highest.sql",
        "-- highest: the highest high of the last bars.\n"
        "create or replace macro highest(n := 5, source := 'bars') as table (select symbol, timestamp, max(high) "
        "over (partition by symbol order by timestamp rows n - 1 preceding) as highest from query_table(source) "
        "where require_whole('highest: n', n, 1))",
    )
    for latest in (False, True):
        with pytest.raises(BadParameter, match="highest: n must be a whole number from 1 to 100000, got 0"):
            adapter.indicators_table({"highest": {"n": 0}}, latest=latest)
    every = adapter.indicators_table({"highest": {"n": 3}, "rolling_max": {"n": 3}})
    newest = adapter.indicators_table({"highest": {"n": 3}, "rolling_max": {"n": 3}}, latest=True)
    assert set(newest.fetchall()) <= set(every.fetchall())


def test_a_users_own_indicator_stands_beside_the_built_in_ones(stored_settings: Settings, tmp_path: Path) -> None:
    """It takes part in the panel's look-back."""
    adapter = with_own(
        stored_settings,
        tmp_path / "smooth.sql",
        "-- smooth: exponential average of the high.\n"
        "create or replace macro smooth(n := 5, source := 'bars') as table (\n"
        "with numbered as (select symbol, timestamp, high, "
        "row_number() over (partition by symbol order by timestamp) as bar from query_table(source)),\n"
        "weighted as (select *, ema_weights(bar, n) as weights from numbered)\n"
        "select symbol, timestamp, exponential_average(high, bar, weights, n) as smooth from weighted);",
    )
    table = adapter.indicators_table({"smooth": {"n": 9}, "sma": {"n": 3}}, ["AAPL", "IBM"], start="2025-06-02")
    alone = adapter.indicator("smooth", ["AAPL", "IBM"], n=9).filter("timestamp >= '2025-06-02 04:00:00+00'")
    values = {row[:2]: row[2] for row in alone.fetchall()}
    rows = table.fetchall()
    assert len(rows) == len(values) > 50
    assert all(row[2] == pytest.approx(values[row[:2]], rel=1e-10) for row in rows)
