"""The numbers: every indicator equals TA-Lib on real bars and on awkward ones, with NULLs in the same places."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest
import talib
from conftest import MORNING, ROOT, bar_rows, bar_table
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from alchemiser_duck import CachedMarketDataAdapter, MarketDataStore, Settings
from alchemiser_duck import exchange_calendar as calendar
from alchemiser_duck.sql_catalog import built_in_files

Closes = npt.NDArray[np.float64]


def windows(values: Closes, n: int) -> Any:
    return np.lib.stride_tricks.sliding_window_view(values, n)


def late(values: Any, size: int) -> Closes:
    """Values for the last bars; NaN for those before."""
    return np.concatenate([np.full(size - len(values), np.nan), values])


def returns(closes: Closes) -> Closes:
    return 100 * (closes[1:] / closes[:-1] - 1)


REFERENCES: dict[str, Callable[[Closes, int], Closes]] = {
    "sma": talib.SMA,
    "ema": talib.EMA,
    "rsi": talib.RSI,
    "current_price": lambda closes, n: closes,
    "cumulative_return": lambda closes, n: talib.ROC(closes, n),
    "moving_average_return": lambda closes, n: late(windows(returns(closes), n).mean(axis=1), len(closes)),
    "stdev_price": lambda closes, n: late(windows(closes, n).std(axis=1, ddof=1), len(closes)),
    "stdev_return": lambda closes, n: late(windows(returns(closes), n).std(axis=1) * np.sqrt(252), len(closes)),
}
"""indicator: what it must equal (TA-Lib, else numpy window by window); a file without one fails below"""

WITHOUT_N = {"current_price"}

REAL = pq.read_table(ROOT / "alchemiser_duck" / "sandbox" / "data" / "real_bars.parquet")


def real_closes(symbol: str) -> Closes:
    return np.array([row["close"] for row in REAL.to_pylist() if row["symbol"] == symbol])


def awkward() -> dict[str, Closes]:
    random = np.random.default_rng(7)
    walk = np.exp(np.cumsum(random.normal(0, 0.02, 4000)))
    return {
        "constant": np.full(900, 12.5),
        "constant after a jump": np.concatenate([[1e5, 1.0], np.full(2000, 1.0)]),
        "one bar": np.array([3.0]),
        "shorter than the window": np.array([3.0, 4.0, 5.0]),
        "tiny": walk * 1e-4,
        "huge": walk * 1e6,
        "spanning ten orders of magnitude": np.exp(np.linspace(np.log(1e-4), np.log(1e6), 3000)) * walk[:3000],
        "rising only": np.arange(1.0, 500.0),
        "falling only": np.arange(500.0, 1.0, -1.0),
        "long": np.exp(np.cumsum(random.normal(0, 0.01, 30_000))),
    }


CASES = awkward() | {f"real {symbol}": real_closes(symbol) for symbol in ("AAPL", "FB", "GOOG", "IBM")}


@pytest.fixture(scope="module")
def con() -> duckdb.DuckDBPyConnection:
    """Every case as a symbol of one relation, with the indicators of sql/."""
    con = duckdb.connect(":memory:")
    con.execute("create table cases (symbol varchar, timestamp timestamptz, close double)")
    for name, closes in CASES.items():
        con.execute(
            "insert into cases select $1, timestamptz '1900-01-01 05:00:00+00' + to_days(i::integer), c "
            "from (select unnest($2::double[]) as c, unnest(range(len($2))) as i)",
            [name, closes.tolist()],
        )
    for file in built_in_files():
        if file.is_indicator:
            con.execute(file.text)
    return con


def values(con: duckdb.DuckDBPyConnection, call: str, column: str, symbol: str) -> Closes:
    rows = con.execute(f"select {column} from {call} where symbol = $1 order by timestamp", [symbol]).fetchall()
    return np.array([np.nan if value is None else value for (value,) in rows], dtype=float)


def call(name: str, n: int, source: str) -> str:
    return f"{name}(source := '{source}')" if name in WITHOUT_N else f"{name}(n := {n}, source := '{source}')"


def assert_equal(ours: Closes, reference: Closes) -> None:
    assert (np.isnan(ours) == np.isnan(reference)).all(), "NULL in other places than the reference"
    # what cancels (a mean of returns near zero) is held against the size of what it is made of
    np.testing.assert_allclose(ours, reference, rtol=1e-9, atol=1e-12 * max(1, np.nanmax(np.abs(reference), initial=0)))


@pytest.mark.parametrize("n", [2, 5, 14, 20, 50, 200])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", REFERENCES)
def test_indicator_equals_talib(con: duckdb.DuckDBPyConnection, name: str, case: str, n: int) -> None:
    ours = values(con, call(name, n, "cases"), name, case)
    assert len(ours) == len(CASES[case])
    if len(CASES[case]) > n or name in WITHOUT_N:
        assert_equal(ours, REFERENCES[name](CASES[case], n))
    else:  # TA-Lib refuses some inputs that are shorter than the window
        assert np.isnan(ours[: n - 1]).all()


def test_sma_of_one_bar_is_the_close(con: duckdb.DuckDBPyConnection) -> None:
    assert_equal(values(con, "sma(n := 1, source := 'cases')", "sma", "real IBM"), CASES["real IBM"])


def test_every_indicator_has_a_reference() -> None:
    assert {file.name for file in built_in_files() if file.is_indicator} == set(REFERENCES)


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
        con.execute((ROOT / "sql" / "indicators" / "rsi.sql").read_text())
        ours = values(con, f"rsi({n})", "rsi", "X")
        if len(closes) > n:
            assert_equal(ours, talib.RSI(np.array(closes), n))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("sma(0)", "sma: n must be a whole number of at least 1 bar, got 0"),
        ("sma(-3)", "got -3"),
        ("sma(2.5)", "got 2.5"),
        ("sma(null)", "got null"),
        ("rsi(1)", "rsi: n must be a whole number of at least 2 bars, got 1"),
        ("rsi(0)", "got 0"),
        ("rsi(-1)", "got -1"),
    ],
)
def test_a_parameter_out_of_range_is_an_error_in_sql_too(
    con: duckdb.DuckDBPyConnection, call: str, message: str
) -> None:
    with pytest.raises(duckdb.Error, match=message):
        con.execute(f"from {call[:-1]}, source := 'cases')").fetchall()


def test_the_declared_look_back_is_enough_and_not_wasteful(con: duckdb.DuckDBPyConnection) -> None:
    """From that many bars before on, the value is the one of the whole history; sma's is tight: one less is NULL."""
    closes = CASES["real IBM"]
    for file in (file for file in built_in_files() if file.is_indicator):
        for n in (2, 14, 50):
            row = con.execute(f"select {file.look_back} from (select {n} as n)").fetchone()
            assert row
            look_back = int(row[0])
            con.execute(
                "create or replace table tail as from cases where symbol = 'real IBM' order by timestamp desc limit $1",
                [look_back + 1],
            )
            cut = values(con, call(file.name, n, "tail"), file.name, "real IBM")[-1]
            assert cut == pytest.approx(REFERENCES[file.name](closes, n)[-1], rel=1e-10)
            con.execute("delete from tail where timestamp = (select min(timestamp) from tail)")
            if file.name not in {"ema", "rsi", *WITHOUT_N}:  # endless memory: there is no bar too few
                assert np.isnan(values(con, call(file.name, n, "tail"), file.name, "real IBM")[-1])


def parameters(name: str, n: int) -> dict[str, int]:
    return {} if name in WITHOUT_N else {"n": n}


def test_indicator_values_through_the_lake_equal_talib(adapter: CachedMarketDataAdapter) -> None:
    """The same numbers through S3, httpfs, hive partitions and the adapter."""
    for symbol in ("AAPL", "IBM"):
        for name in REFERENCES:
            rows = adapter.indicator(name, [symbol], **parameters(name, 14)).fetchall()
            ours = np.array([np.nan if row[2] is None else row[2] for row in rows], dtype=float)
            assert_equal(ours, REFERENCES[name](real_closes(symbol), 14))


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


def test_a_value_at_t_is_the_same_seen_from_t(adapter: CachedMarketDataAdapter) -> None:
    """No look-ahead: through as_of = t, the value at t is exactly that of the full history."""
    for name in REFERENCES:
        wanted = parameters(name, 14)
        whole = {(row[0], row[1]): row[2] for row in adapter.indicator(name, ["AAPL", "IBM"], **wanted).fetchall()}
        for day in (date(2014, 3, 3), date(2019, 8, 15), date(2025, 3, 10)):
            rows = adapter.as_of(day).indicator(name, ["AAPL", "IBM"], **wanted).fetchall()
            assert max(row[1] for row in rows) < datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
            for symbol, timestamp, value in rows[-50:]:
                assert value == whole[symbol, timestamp]


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
            expected = REFERENCES[name](prices, n)[-1]
            assert latest[symbol] is None if np.isnan(expected) else latest[symbol] == pytest.approx(expected, rel=1e-9)
