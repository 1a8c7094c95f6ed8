"""The numbers: every indicator equals TA-Lib on real bars and on awkward ones, with NULLs in the same places."""

import re
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import duckdb
import numpy as np
import pytest
import talib
from bar_cases import awkward_bars, bar_relation, real_bars
from conftest import MORNING, bar_rows, bar_table
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from references import Bars, Values, references

from alchemiser_duck import CachedMarketDataAdapter, MarketDataStore, Settings
from alchemiser_duck import exchange_calendar as calendar
from alchemiser_duck.query.catalogue import SqlFile, built_in_files
from alchemiser_duck.query.literals import literal

N = (2, 5, 14, 50)

CASES = awkward_bars() | {f"real {symbol}": real_bars(symbol) for symbol in ("AAPL", "FB", "GOOG", "IBM")}

INDICATORS = {file.name: file for file in built_in_files() if file.is_indicator}

# TA-Lib itself refuses inputs shorter than its windows
TOO_SHORT = {"one bar", "shorter than the window"}


@pytest.fixture(scope="module")
def con() -> duckdb.DuckDBPyConnection:
    """Every case as a symbol of one relation, with the functions and indicators of sql/."""
    con = duckdb.connect(":memory:", config={"threads": 2})
    bar_relation(con, "cases", CASES)
    for file in built_in_files():
        if file.is_indicator or file.is_stage or file.is_function:
            con.execute(file.text)
    return con


def call(name: str, parameters: dict[str, Any], source: str) -> str:
    arguments = {key: literal(value) for key, value in (parameters | {"source": source}).items()}
    return f"{name}({', '.join(f'{key} := {value}' for key, value in arguments.items())})"


def values(con: duckdb.DuckDBPyConnection, relation: str, column: str, symbol: str) -> Values:
    rows = con.execute(f'select "{column}" from {relation} where symbol = $1 order by timestamp', [symbol]).fetchall()
    return as_array(row[0] for row in rows)


def as_array(column: Iterable[float | None]) -> Values:
    return np.array([np.nan if value is None else value for value in column], dtype=float)


def floor(unit: str, bars: Bars) -> Values:
    """What a value of this unit is made of, bar by bar: sums that cancel are as exact as their parts."""
    if "shares" in unit:
        return np.maximum.accumulate(bars.volume)
    if "squared" in unit:
        return np.maximum.accumulate(bars.high) ** 2
    if "USD" in unit:
        return np.maximum.accumulate(bars.high)
    if "degrees" in unit:  # of a slope in USD per share and bar
        return np.maximum(100, 60 * np.maximum.accumulate(bars.high))
    return np.full(len(bars), 100.0)


def assert_equal(ours: Values, reference: Values, scale: Values) -> None:
    """A relative error of at most 1e-9, or 1e-12 of the parts the value is made of; nulls in the same places."""
    assert len(ours) == len(reference)
    assert (np.isnan(ours) == np.isnan(reference)).all(), "null in other places than the reference"
    parts = np.fmax.accumulate(np.fmax(np.abs(reference), scale))
    wrong = ~(np.isnan(ours) | (np.abs(ours - reference) <= 1e-9 * np.abs(reference) + 1e-12 * parts))
    assert not wrong.any(), f"{ours[wrong][:3]} instead of {reference[wrong][:3]} at {np.flatnonzero(wrong)[:3]}"


def unit_of(file: SqlFile) -> str:
    found = re.search(r"unit: ([^|\n]+)", file.text)
    assert found, f"{file.path} does not say its unit"
    return found.group(1)


@pytest.mark.parametrize("n", N)
@pytest.mark.parametrize("name", references(2))
def test_indicator_equals_its_reference(con: duckdb.DuckDBPyConnection, name: str, n: int) -> None:
    """TA-Lib, else numpy window by window: the same numbers, the same nulls, on every case."""
    reference = references(n)[name]
    con.execute(f"create or replace temporary table computed as from {call(name, reference.parameters, 'cases')}")
    for case, bars in CASES.items():
        for column, function in reference.columns.items():
            ours = values(con, "computed", column, case)
            if case in TOO_SHORT:
                assert len(ours) == len(bars)
                warm = int(np.isfinite(function(CASES["real IBM"])).argmax())
                assert np.isnan(ours[:warm]).all()
            else:
                assert_equal(ours, function(bars), floor(unit_of(INDICATORS[name]), bars))


def test_every_indicator_has_a_reference() -> None:
    assert set(INDICATORS) == set(references(14))


def test_at_least_sixty_functions_of_talib_are_there() -> None:
    ours = {name.upper() for name in INDICATORS} | {"MAX", "MIN", "SUM"}
    assert len(ours & set(talib.get_functions())) >= 60


def test_an_average_of_one_bar_is_the_close(con: duckdb.DuckDBPyConnection) -> None:
    for name in ("sma", "rolling_vwap"):
        expected = getattr(CASES["real IBM"], "close" if name == "sma" else "vwap")
        ours = values(con, call(name, {"n": 1}, "cases"), name, "real IBM")
        assert_equal(ours, expected, expected)


@pytest.mark.parametrize("name", sorted(INDICATORS))
def test_a_missing_number_shows(con: duckdb.DuckDBPyConnection, name: str) -> None:
    """A bar without prices makes null, never a number computed as if it were not there."""
    con.execute("create or replace table holed as from cases where symbol = 'real IBM'")
    hole = con.execute("select timestamp from holed order by timestamp limit 1 offset 600").fetchall()[0]
    assert hole
    con.execute(
        "update holed set open = null, high = null, low = null, close = null, vwap = null, volume = null "
        "where timestamp = $1",
        [hole[0]],
    )
    reference = references(14)[name]
    for column, function in reference.columns.items():
        ours = values(con, call(name, reference.parameters, "holed"), column, "real IBM")
        whole = function(CASES["real IBM"])
        assert_equal(ours[:600], whole[:600], floor(unit_of(INDICATORS[name]), CASES["real IBM"])[:600])
        assert np.isnan(ours[600])
        seen = ~np.isnan(ours)
        seen[:600] = False
        scale = floor(unit_of(INDICATORS[name]), CASES["real IBM"])
        assert (np.abs(ours[seen] - whole[seen]) <= 1e-9 * np.abs(whole[seen]) + 1e-12 * scale[seen]).all()


@hypothesis_settings(max_examples=40, deadline=None)
@given(
    closes=st.lists(st.floats(0.01, 1e4), min_size=3, max_size=60),
    n=st.integers(2, 12),
)
def test_rsi_equals_talib_on_anything(closes: list[float], n: int) -> None:
    with duckdb.connect(":memory:") as con:
        con.execute(
            "create table bars as "
            "select 'X' as symbol, unnest($1::double[]) as close, unnest(range(len($1))) as timestamp",
            [closes],
        )
        for file in built_in_files():
            if file.is_function or file.name in ("numbered_closes", "gains_and_moves", "rsi"):
                con.execute(file.text)
        ours = values(con, f"rsi({n})", "rsi", "X")
        if len(closes) > n:
            assert_equal(ours, talib.RSI(np.array(closes), n), np.full(len(closes), 100.0))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("sma(0)", "sma: n must be a whole number from 1 to 100000, got 0"),
        ("sma(-3)", "got -3"),
        ("sma(2.5)", "got 2.5"),
        ("sma(null)", "got null"),
        ("sma(100001)", "got 100001"),
        ("rsi(1)", "rsi: n must be a whole number from 2 to 100000, got 1"),
        ("macd(26, 12)", "macd: slow must be a whole number from 26 to 100000, got 12"),
        ("bbands(20, -1)", "bbands: upper_deviations must be from 0 to 100, got -1"),
        ("ma(20, 'hull')", "ma: kind must be sma, ema, wma, dema, tema, trima or t3, got hull"),
    ],
)
def test_a_parameter_out_of_range_is_an_error_in_sql_too(
    con: duckdb.DuckDBPyConnection, call: str, message: str
) -> None:
    with pytest.raises(duckdb.Error, match=message):
        con.execute(f"from {call[:-1]}, source := 'cases')").fetchall()


@pytest.mark.parametrize("name", sorted(INDICATORS))
def test_every_bound_is_kept(con: duckdb.DuckDBPyConnection, name: str) -> None:
    """Each number an indicator takes is refused when it is negative, with the indicator's and the parameter's name."""
    for parameter, default in INDICATORS[name].parameters.items():
        if parameter not in ("source", "kind"):
            with pytest.raises(duckdb.Error, match=rf"{name}: {parameter} must be .*, got -1"):
                con.execute(f"from {name}({parameter} := -1, source := 'cases')").fetchall()
            assert float(default) >= 0


ENDLESS = {"ad", "adosc", "obv"}
"""they count from the first bar on"""


@pytest.mark.parametrize("n", [2, 14, 50])
@pytest.mark.parametrize("name", sorted(set(INDICATORS) - ENDLESS))
def test_the_declared_look_back_is_enough(con: duckdb.DuckDBPyConnection, name: str, n: int) -> None:
    """From that many bars before on, the value is the one of the whole history."""
    reference, file = references(n)[name], INDICATORS[name]
    assert file.look_back
    arguments = file.parameters | {key: literal(value) for key, value in reference.parameters.items()}
    columns = ", ".join(f"{value} as {key}" for key, value in arguments.items())
    found = con.execute(f"select {file.look_back} from (select {columns})").fetchall()[0]
    assert found
    look_back = int(found[0])
    con.execute(
        "create or replace table tail as from cases where symbol = 'real IBM' order by timestamp desc limit $1",
        [look_back + 1],
    )
    for column, function in reference.columns.items():
        cut = values(con, call(name, reference.parameters, "tail"), column, "real IBM")[-1]
        scale = floor(unit_of(file), CASES["real IBM"])[-1]
        assert cut == pytest.approx(function(CASES["real IBM"])[-1], rel=1e-10, abs=1e-12 * scale)
    if not re.search("ema|wilder", file.look_back) and look_back:  # an endless memory has no bar too few
        con.execute("delete from tail where timestamp = (select min(timestamp) from tail)")
        assert np.isnan(values(con, call(name, reference.parameters, "tail"), column, "real IBM")[-1])


def test_indicators_through_the_lake_equal_their_references(adapter: CachedMarketDataAdapter) -> None:
    """The same numbers through S3, httpfs, hive partitions and the adapter: all of them, side by side."""
    wanted = references(14)
    asked = {name: dict(one.parameters) for name, one in wanted.items()}
    table = adapter.indicators_table(asked, ["AAPL", "IBM"])
    for symbol in ("AAPL", "IBM"):
        bars = stored_bars(adapter, symbol)
        rows = table.filter(f"symbol = '{symbol}'")
        for name, reference in wanted.items():
            for column, function in reference.columns.items():
                label = name if column == name else f"{name}_{column}"
                ours = as_array(row[0] for row in rows.select(f'"{label}"').fetchall())
                assert_equal(ours, function(bars), floor(unit_of(INDICATORS[name]), bars))


def stored_bars(adapter: CachedMarketDataAdapter, symbol: str) -> Bars:
    columns = ("open", "high", "low", "close", "vwap", "volume")
    rows = adapter.bars([symbol]).select(", ".join(columns)).fetchall()
    return Bars(*(np.array(column, dtype=float) for column in zip(*rows, strict=True)))


def test_values_do_not_depend_on_start(adapter: CachedMarketDataAdapter) -> None:
    """Reading only the warm-up gives what reading everything gives."""
    for name, n in (("sma", 200), ("rsi", 14), ("rsi", 50)):
        whole = {(row[0], row[1]): row[2] for row in adapter.indicator(name, ["AAPL", "FB", "IBM"], n=n).fetchall()}
        for start in (date(2025, 7, 1), date(2024, 2, 29), date(2024, 12, 20)):
            part = adapter.indicator(name, ["AAPL", "FB", "IBM"], start=start, n=n).fetchall()
            assert part
            assert {row[0] for row in part} == {"AAPL", "FB", "IBM"} if start >= date(2024, 12, 1) else True
            for symbol, timestamp, value in part:
                expected = whole[symbol, timestamp]
                assert (value is None) == (expected is None)
                if value is not None:
                    assert value == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("day", [date(2014, 3, 3), date(2019, 8, 15), date(2025, 3, 10)])
def test_a_value_at_t_is_the_same_seen_from_t(adapter: CachedMarketDataAdapter, day: date) -> None:
    """No look-ahead: through as_of = t, the values at t are exactly those of the full history.

    Of bars as traded: adjusted prices are, as seen from t, what they were then.
    """
    wanted = {name: dict(one.parameters) for name, one in references(14).items()}
    whole = {row[:2]: row for row in adapter.indicators_table(wanted, ["AAPL", "IBM"], source="bars_raw").fetchall()}
    rows = adapter.as_of(day).indicators_table(wanted, ["AAPL", "IBM"], source="bars_raw").fetchall()
    assert max(row[1] for row in rows) < datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
    for row in rows[-50:]:
        assert row == whole[row[:2]]


def test_gaps_and_new_listings_get_their_whole_history(settings: Settings) -> None:
    """A symbol halted for months has fewer bars in the warm-up's days: it is computed from all it has."""
    days = calendar.sessions(date(2022, 1, 3), date(2025, 7, 15))
    random = np.random.default_rng(3)
    halted = [day for day in days if not date(2024, 3, 1) <= day <= date(2025, 6, 27)]
    listed = days[-30:]
    rows, closes = [], {}
    for symbol, traded in (("HALT", halted), ("NEW", listed), ("FULL", days)):
        prices = 50 * np.exp(np.cumsum(random.normal(0, 0.01, len(traded))))
        closes[symbol] = prices
        rows += [bar_rows(symbol, [day], float(price))[0] for day, price in zip(traded, prices, strict=True)]
    MarketDataStore(settings).write_bars(bar_table(rows))
    adapter = CachedMarketDataAdapter(settings, clock=lambda: MORNING)
    for name, n in (("sma", 50), ("rsi", 14), ("sma", 20)):
        latest = {row[0]: row[2] for row in adapter.latest(name, ["HALT", "NEW", "FULL"], n=n).fetchall()}
        since = {
            row[0]: row[2]
            for row in adapter.indicator(name, ["HALT", "NEW", "FULL"], start="2025-07-15", n=n).fetchall()
        }
        assert latest.keys() == since.keys()
        for symbol, value in latest.items():
            assert value == (None if since[symbol] is None else pytest.approx(since[symbol], rel=1e-10))
        for symbol, prices in closes.items():
            expected = getattr(talib, name.upper())(prices, n)[-1]
            assert latest[symbol] is None if np.isnan(expected) else latest[symbol] == pytest.approx(expected, rel=1e-9)
