"""Several indicators side by side: the same numbers as each by itself, from one scan and few windows."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from itertools import permutations
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from bar_cases import awkward_bars, bar_relation, panel_in_lanes
from references import references

from alchemiser_duck import CachedMarketDataAdapter
from alchemiser_duck.errors import BadParameter, UnknownIndicator
from alchemiser_duck.panel import execution
from alchemiser_duck.panel.execution import LANES, OrderedScan, compute, widened
from alchemiser_duck.panel.fusion import columns
from alchemiser_duck.panel.plan import newest_panel, panel
from alchemiser_duck.query.catalogue import IndicatorCall, PanelEntry, built_in_files, indicator_files
from alchemiser_duck.query.literals import literal, literal_list

FILES = indicator_files(None)
AS_THEY_STAND = {"ma"}
"""built-in indicators that are joined: a union is no chain of row-by-row SELECTs"""


def entry(name: str, n: int) -> PanelEntry:
    reference = references(n)[name]
    arguments = {key: literal(value) for key, value in reference.parameters.items()}
    return PanelEntry(IndicatorCall(FILES[name], arguments), {c: f"{name}_{c}" for c in reference.columns})


@pytest.fixture(scope="module")
def con() -> duckdb.DuckDBPyConnection:
    con = duckdb.connect(":memory:", config={"threads": 2})
    cases = awkward_bars()
    bar_relation(con, "cases", {name: cases[name] for name in cases if name != "long"})
    for file in built_in_files():
        if file.is_indicator or file.is_stage or file.is_function:
            con.execute(file.text)
    return con


def test_the_columns_of_built_in_indicators_are_read_from_their_text(con: duckdb.DuckDBPyConnection) -> None:
    for name, file in FILES.items():
        described = con.execute(f"describe from {IndicatorCall(file, {}).sql('cases')}").fetchall()
        assert columns(file) == [column for column, *_ in described], name


@pytest.mark.parametrize("n", [3, 14])
def test_a_panel_of_all_indicators_equals_each_by_itself(con: duckdb.DuckDBPyConnection, n: int) -> None:
    """To the last bit: every value and every null."""
    entries = [entry(name, n) for name in sorted(FILES)]
    con.execute(f"create or replace temporary table execution as {panel(entries, 'cases', [])}")
    for one in entries:
        alone = ", ".join(f'"{column}" as "{label}"' for column, label in one.columns.items())
        con.execute(f"create or replace temporary table alone as select symbol, timestamp, {alone} from "
                    f"{one.call.sql('cases')}")  # fmt: skip
        listed = ", ".join(f'"{label}"' for label in one.columns.values())
        part = f"(select symbol, timestamp, {listed} from execution)"
        differing = con.execute(f"from ((from {part} except from alone) union all (from alone except from {part}))")
        assert differing.fetchall() == [], one.call.file.name


@pytest.mark.parametrize("bars", [None, 1, 2, 3, 7, 29, 100])
@pytest.mark.parametrize("n", [3, 14])
@pytest.mark.parametrize("named", [False, True])
def test_the_newest_row_is_the_last_of_all_rows(
    con: duckdb.DuckDBPyConnection, n: int, bars: int | None, named: bool
) -> None:
    """Aggregates instead of windows: the same values and nulls, for histories of every length."""
    numbered = "select *, row_number() over (partition by symbol order by timestamp) as number from cases"
    con.execute(f"create or replace temporary table cut as from ({numbered}) where number <= {bars or 'number'}")
    entries = [entry(name, n) for name in sorted(FILES)]
    symbols = [symbol for (symbol,) in con.execute("select distinct symbol from cut order by symbol desc").fetchall()]
    asked = [*symbols, symbols[3], "never heard of"] if named else None
    newest = con.sql(f"from ({newest_panel(entries, 'cut', [], asked)}) order by symbol").to_arrow_table()
    every = con.sql(
        f"select * from ({panel(entries, 'cut', [])}) "
        "qualify row_number() over (partition by symbol order by timestamp desc) = 1 order by symbol"
    ).to_arrow_table()
    counts = con.execute("select count(*) - 1 from cut group by symbol order by symbol").fetchall()
    assert newest["bars_before"].to_pylist() == [count for (count,) in counts]
    assert newest["timestamp"].to_pylist() == every["timestamp"].to_pylist()
    for label in every.column_names[2:]:
        for symbol, got, expected in zip(
            every["symbol"].to_pylist(), newest[label].to_pylist(), every[label].to_pylist(), strict=True
        ):
            wanted = None if expected is None else pytest.approx(expected, rel=1e-9, abs=1e-7, nan_ok=True)
            assert got == wanted, (label, symbol)


BY_WINDOWS = AS_THEY_STAND | {
    *("linearreg", "linearreg_angle", "linearreg_intercept", "linearreg_slope", "tsf", "beta", "correl"),
    *("avgdev", "cci"),
    "max_drawdown",
}
"""built-in indicators with a window that lanes do not give: regressions, lists, frames of a varying length"""


@pytest.mark.parametrize(
    ("n", "bars", "hole"),
    [
        *((3, None, 97), (14, None, 10**9), (3, 2, 10**9), (14, 2, 97), (3, 29, 97), (14, 29, 10**9)),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in ((3, None, 10**9), (14, None, 97), (14, 29, 97))),
    ],
)
def test_lanes_of_sorted_rows_equal_windows(
    con: duckdb.DuckDBPyConnection, n: int, bars: int | None, hole: int
) -> None:
    """The same values and nulls from lanes as from frames, each hole-th value missing, for histories of any length."""
    numbered = "select *, row_number() over (partition by symbol order by timestamp) as number from cases"
    kept = ", ".join(f"case when number % {hole} > 0 then {name} end as {name}" for name in ("high", "close", "volume"))
    con.execute(
        "create or replace temporary table cut as "
        f"select * replace ({kept}) from ({numbered}) where number <= {bars or 'number'}"
    )
    by_windows = set()
    for name in sorted(FILES):
        one = entry(name, n)
        rows = panel_in_lanes(con, [one], "cut")
        if rows is None:
            by_windows.add(name)
            continue
        plain = con.sql(f"from ({panel([one], 'cut', [])}) order by symbol, timestamp").to_arrow_table()
        assert rows.select(["symbol", "timestamp"]).equals(plain.select(["symbol", "timestamp"]))
        for label in plain.column_names[2:]:
            got, expected = rows[label], plain[label]
            assert got.is_null().equals(expected.is_null()), label
            numbers = [column.fill_null(0).cast(pa.float64()).to_numpy() for column in (got, expected)]
            np.testing.assert_allclose(*numbers, rtol=1e-9, atol=1e-7, err_msg=label)
    assert by_windows == BY_WINDOWS


def rows_again(*columns: str, more: str = "") -> OrderedScan:
    """What gives the rows as the blocks have them, each with its `bar_number`."""
    lanes = [
        {name: execution.lane(place, j) for place, name in enumerate(columns)}
        | {"bar_number": f"before + {j + 1}", "is_bar": f"{j} < bars"}
        for j in range(LANES)
    ]
    bars = ", ".join("{" + ", ".join(f"'{name}': {column}" for name, column in lane.items()) + "}" for lane in lanes)
    unnested = f"select symbol, before, unnest([{bars}]) as bar from rows_in_order"
    text = f"select symbol, bar.* exclude (is_bar){more} from ({unnested}) where bar.is_bar"
    return OrderedScan("", columns, lambda *_: text)


def as_rows(asked: OrderedScan, rows: pa.Table) -> pa.Table:
    con = duckdb.connect(":memory:", config={"threads": 1})
    con.execute("set global timezone = 'UTC'")
    return con.from_arrow(compute(asked, rows, con.cursor)).to_arrow_table()


@pytest.mark.parametrize("sizes", [[], [1], [7], [4, 8], [3, 1], [1, 9, 1], [50, 1], [1, 50], [2] * 40])
def test_parts_are_of_whole_symbols(sizes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the symbols' sizes are, every row is in one part, and each part begins with a symbol's first bar."""
    monkeypatch.setattr(execution, "ROWS_IN_A_PART", 1)
    symbols = [f"S{number:02}" for number, size in enumerate(sizes) for _ in range(size)]
    rows = pa.table({"symbol": pa.array(symbols, pa.string()), "timestamp": pa.array(range(len(symbols)), pa.int64())})
    told = []
    asked = rows_again("timestamp", more=", lag(bar.bar_number) over () as before")

    def query(most_bars: int, whole: Mapping[str, bool]) -> str:
        told.append((most_bars, whole))
        return asked.query(most_bars, whole)

    result = as_rows(replace(asked, query=query), rows)
    assert result.select(["symbol", "timestamp"]).equals(rows)
    assert result["bar_number"].to_pylist() == [number + 1 for size in sizes for number in range(size)]
    assert told == [(max(sizes, default=1), {"symbol": False, "timestamp": False})]
    begun = [
        number for number, before in zip(result["bar_number"], result["before"], strict=True) if not before.is_valid
    ]
    assert min(1, len(sizes)) <= len(begun) <= len(sizes)
    assert all(number.as_py() == 1 for number in begun)


@pytest.mark.parametrize("order", ["year, symbol, timestamp", "timestamp, symbol", "hash(timestamp)", "symbol desc"])
@pytest.mark.parametrize("symbols", [1, 9, 70_000])
def test_rows_come_by_symbol_and_time(order: str, symbols: int) -> None:
    """From partitions of years, and from any other order; names compare as DuckDB compares them."""
    con = duckdb.connect(":memory:", config={"threads": 1})
    rows = con.sql(
        f"""
        select 'é' || hash(number) % {symbols} as symbol, timestamp '2020-01-01' + to_days(number::int) as timestamp
        , number, year(timestamp) as year, case when number % 7 > 0 then number / 2 end as close
        from (select unnest(range(100_000)) as number) order by {order}
        """
    ).to_arrow_table()
    result = as_rows(rows_again("timestamp", "number", "year", "close"), rows).drop_columns("bar_number")
    expected = con.sql("from rows order by symbol, timestamp").to_arrow_table()
    assert result.select(expected.column_names).equals(expected)


def test_sums_of_floats_are_of_doubles() -> None:
    """As DuckDB's own are, whatever the columns of a user's relation."""
    con = duckdb.connect(":memory:", config={"threads": 1})
    rows = con.sql("select 'A' as symbol, range as timestamp, (16777216 + range)::float as close from range(3)")
    asked = rows_again("timestamp", "close", more=", bar.close + 1 as more")
    assert as_rows(asked, rows.to_arrow_table())["more"].to_pylist() == [16777217.0, 16777217.0, 16777219.0]


def test_symbols_may_be_an_enum() -> None:
    """A user's relation may have them so; the result has names, as text sorts them."""
    con = duckdb.connect(":memory:", config={"threads": 1})
    con.execute("create type letter as enum ('B', 'A')")
    rows = con.sql("select ['A', 'B'][range % 2 + 1]::letter as symbol, range as timestamp, range as x from range(10)")
    result = as_rows(rows_again("timestamp", "x"), rows.to_arrow_table())
    assert result["symbol"].to_pylist() == ["A"] * 5 + ["B"] * 5
    assert result["x"].to_pylist() == [0, 2, 4, 6, 8, 1, 3, 5, 7, 9]
    both = widened(result, rows.select("symbol, timestamp, x + 100 as y").to_arrow_table())
    assert both is not None
    assert both["y"].to_pylist() == [x + 100 for x in both["x"].to_pylist()]


def test_rows_without_a_symbol_or_a_time_come_last() -> None:
    con = duckdb.connect(":memory:", config={"threads": 1})
    rows = con.sql("from (values ('B', 2), (null, 1), ('A', null), ('A', 5), ('B', 1)) as rows(symbol, timestamp)")
    result = as_rows(rows_again("timestamp"), rows.to_arrow_table())
    given = list(zip(*(result[name].to_pylist() for name in ("symbol", "timestamp", "bar_number")), strict=True))
    assert given == [("A", 5, 1), ("A", None, 2), ("B", 1, 1), ("B", 2, 2), (None, 1, 1)]


@pytest.mark.parametrize("asked", [["tiny", "huge"], ["huge", "huge"], ["tiny", "a\x1fb"], [], ["nothing"], ["it's"]])
def test_the_newest_rows_are_of_the_symbols_asked(con: duckdb.DuckDBPyConnection, asked: list[str]) -> None:
    condition = f"symbol in ({literal_list(asked) or 'null'})"
    rows = con.execute(newest_panel([entry("sma", 3)], "cases", [condition], asked)).fetchall()
    assert sorted(row[0] for row in rows) == sorted({"tiny", "huge"} & set(asked))


def operators(con: duckdb.DuckDBPyConnection, query: str, kind: str) -> int:
    """Count the operators of a plan whose name ends with a word."""
    waiting = json.loads(con.execute(f"explain (format json) {query}").fetchall()[0][1])
    names = []
    while waiting:
        operator = waiting.pop()
        names.append(operator["name"].strip().lower())
        waiting += operator["children"]
    return sum(name.endswith(kind) for name in names)


def test_the_newest_row_slides_no_frame(con: duckdb.DuckDBPyConnection) -> None:
    """sma, rsi, bbands, ema: one sort for the previous close and the count of bars, the rest is one aggregate."""
    entries = [entry(name, 14) for name in ("sma", "rsi", "bbands", "ema")]
    query = newest_panel(entries, "cases", []).lower()
    assert query.count("preceding") == query.count("unbounded preceding") == 1
    assert operators(con, query, "window") == 1


def test_built_in_indicators_share_one_scan_and_their_windows(con: duckdb.DuckDBPyConnection) -> None:
    names = ["sma", "ema", "rsi", "bbands", "cumulative_return", "stdev_return", "macd", "stoch", "adx"]
    query = panel([entry(name, 14) for name in names], "cases", ["symbol = 'tiny'"])
    assert operators(con, query, "scan") == 1
    assert operators(con, query, "window") <= 5  # as deep as the deepest of them, not as many as there are
    assert operators(con, query, "join") == 0


@pytest.mark.parametrize("name", sorted(FILES))
def test_only_named_indicators_are_joined(name: str) -> None:
    assert ("left join" in panel([entry(name, 14)], "cases", [])) == (name in AS_THEY_STAND)


def test_what_two_indicators_need_is_computed_once() -> None:
    twice = panel([entry("sma", 20), entry("bbands", 20)], "cases", [])
    assert twice.lower().count("avg(") == 1


def test_columns_are_named_after_what_was_asked(adapter: CachedMarketDataAdapter) -> None:
    asked = {"rsi": {"n": 14}, "bbands": {}, "sma": [{"n": 50}, {"n": 200}], "macd": [{"fast": 5}]}
    table = adapter.indicators_table(asked, ["AAPL", "IBM"], start="2025-07-01")
    assert table.columns == [
        *("symbol", "timestamp", "rsi", "bbands_upper", "bbands_middle", "bbands_lower", "sma_50", "sma_200"),
        *("macd_5", "macd_5_signal", "macd_5_histogram"),
    ]
    rsi = adapter.indicator("rsi", ["AAPL", "IBM"], start="2025-07-01", n=14).fetchall()
    assert table.select("symbol, timestamp, rsi").fetchall() == [
        (symbol, timestamp, pytest.approx(value, rel=1e-10)) for symbol, timestamp, value in rsi
    ]


IN_LANES = {"rsi": {}, "sma": [{"n": 3}, {"n": 200}], "bbands": {}, "current_price": {}}


@pytest.mark.parametrize("start", [None, "2012-07-02", "2025-07-01"])
@pytest.mark.parametrize("asked", [IN_LANES, {"ma": {}, **IN_LANES, "linearreg": {}, "mom": {}}, {"cci": {}}])
def test_all_symbols_give_what_each_gives_alone(
    adapter: CachedMarketDataAdapter, asked: dict[str, Any], start: str | None
) -> None:
    """A universe goes by lanes of sorted rows, on every core, and by windows beside them; a few symbols by windows."""
    every = adapter.indicators_table(asked, start=start).to_arrow_table()
    symbols = sorted(set(every["symbol"].to_pylist()))
    alone = adapter.indicators_table(asked, symbols, start=start).to_arrow_table()
    assert symbols == ["AAPL", "FB", "GOOG", "IBM"]
    assert every.schema == alone.schema
    assert every.select([0, 1]).equals(alone.select([0, 1]))
    for got, expected in zip(every.columns[2:], alone.columns[2:], strict=True):
        assert got.is_null().equals(expected.is_null())
        np.testing.assert_allclose(got.fill_null(0).to_numpy(), expected.fill_null(0).to_numpy(), rtol=1e-10)


def test_columns_are_put_beside_the_rows_that_they_are_of() -> None:
    days = pa.array([2, 1, 1], pa.timestamp("us"))
    rows = pa.table({"symbol": ["A", "A", "B"], "timestamp": days.take(pa.array([1, 0, 2])), "x": [1, 2, 3]})
    more = pa.table({"symbol": ["A", "A", "B"], "timestamp": days, "y": [20, 10, 30]})
    for order in permutations(range(3)):
        both = widened(rows, more.take(list(order)))
        assert both is not None
        assert both.to_pydict() == rows.to_pydict() | {"y": [10, 20, 30]}
    for others in (more.slice(1), more.slice(0, 0), pa.concat_tables([more, more.slice(2)])):
        assert widened(rows, others) is None
    assert widened(rows, more.set_column(0, "symbol", pa.array(["A", "A", "C"]))) is None
    assert widened(rows, more.set_column(1, "timestamp", pa.array([3, 1, 1], pa.timestamp("us")))) is None


def test_mistakes_are_named_before_a_universe_is_computed(adapter: CachedMarketDataAdapter) -> None:
    with pytest.raises(BadParameter, match="rsi: n must be a whole number from 2 to 100000, got 1"):
        adapter.indicators_table({"sma": {}, "rsi": {"n": 1}})
    with pytest.raises(BadParameter, match=r"sma: n must be a whole number from 1 to 100000, got 2\.5"):
        adapter.indicator("sma", n=2.5)


def test_latest_gives_a_row_per_symbol(adapter: CachedMarketDataAdapter) -> None:
    rows = adapter.indicators_table({"rsi": {}, "sma": {"n": 200}}, ["AAPL", "FB", "IBM"], latest=True).fetchall()
    assert [row[0] for row in rows] == ["AAPL", "FB", "IBM"]
    for symbol, _, rsi, sma in rows:
        assert rsi == pytest.approx(adapter.latest("rsi", [symbol]).fetchall()[0][2], rel=1e-10)
        alone = adapter.latest("sma", [symbol], n=200).fetchall()[0][2]
        assert sma == (None if alone is None else pytest.approx(alone, rel=1e-12))
    past = adapter.as_of("2014-03-03").indicators_table({"rsi": {}}, ["IBM"], latest=True).fetchall()
    assert past[0][1].date() == date(2014, 3, 3)


def test_mistakes_are_named(adapter: CachedMarketDataAdapter) -> None:
    with pytest.raises(BadParameter, match="no indicator is asked for"):
        adapter.indicators_table({})
    with pytest.raises(BadParameter, match="rsi has no parameter m; it takes n := 14"):
        adapter.indicators_table({"rsi": {"m": 3}})
    with pytest.raises(BadParameter, match="rsi: n must be a whole number from 2 to 100000, got 1"):
        adapter.indicators_table({"sma": {}, "rsi": {"n": 1}})
    with pytest.raises(BadParameter, match="would both be called sma_5"):
        adapter.indicators_table({"sma": [{"n": 5}, {"n": 5}]})
    with pytest.raises(BadParameter, match="neither start nor end"):
        adapter.indicators_table({"sma": {}}, start="2025-01-01", latest=True)
    with pytest.raises(UnknownIndicator, match="did you mean rsi"):
        adapter.indicators_table({"rsii": {}})
