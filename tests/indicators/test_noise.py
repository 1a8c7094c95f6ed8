"""Noise never becomes a signal: what differs in the last bits alone gives the same values, signs and zeros.

Adjusted prices that are equal differ in their last bits across an ex-date, and sums of them with where they begin.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
import talib
from conftest import MORNING
from references import Bars, references
from vendor_histories import DAYS, file, refresh, serve

from alchemiser_duck import CachedMarketDataAdapter, Settings
from alchemiser_duck.query.catalogue import built_in_files
from alchemiser_duck.query.literals import literal
from alchemiser_duck.sandbox import AlpacaServer

Prices = npt.NDArray[np.float64]
BARS = 400
ULP = 2.0**-52
SEED = 7


def tie_rich(rng: np.random.Generator, *, halts: bool) -> tuple[Prices, ...]:
    """Open, high, low and close that move by a few cents, mostly back to where they were; with halts, not at all."""
    cents = np.maximum(2537 + np.cumsum(rng.choice([-2, -1, 0, 0, 0, 1, 2], BARS)), 100)
    if halts:
        for first in range(40, BARS, 150):
            cents[first : first + 80] = cents[first]
    opens = cents + (0 if halts else rng.choice([-1, 0, 0, 1], BARS))
    highs = np.maximum(opens, cents) + (0 if halts else rng.choice([0, 0, 1, 2], BARS))
    lows = np.minimum(opens, cents) - (0 if halts else rng.choice([0, 0, 1], BARS))
    return opens / 100, highs / 100, lows / 100, cents / 100


def shapes() -> dict[str, tuple[Prices, ...]]:
    rng, still = np.random.default_rng(SEED), np.full(BARS, 25.37)
    return {
        "never moved": (still, still, still, still),
        "the same range every day": (still - 0.11, still + 0.13, still - 0.2, still),
        "ties": tie_rich(rng, halts=False),
        "halts": tie_rich(rng, halts=True),
    }


def bars(noise: Callable[[int], Prices]) -> pa.Table:
    """Bars of all shapes, each bar's prices times what `noise` gives for so many bars."""
    rng = np.random.default_rng(SEED)
    parts = []
    for symbol, (opens, highs, lows, closes) in shapes().items():
        factor = noise(BARS)
        columns: dict[str, Any] = {
            "symbol": [symbol] * BARS,
            "timestamp": [datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=day) for day in range(BARS)],
            "volume": 1000.0 + 100 * rng.integers(0, 9, BARS),
        }
        prices = {"open": opens, "high": highs, "low": lows, "close": closes, "vwap": (highs + lows + closes) / 3}
        parts.append(pa.table(columns | {name: price * factor for name, price in prices.items()}))
    return pa.concat_tables(parts)


def every_bar(count: int) -> Prices:
    return np.asarray(1 + np.random.default_rng(SEED).choice([-1, 0, 1], count) * ULP)


def by_dividends(count: int) -> Prices:
    """Every 40 bars another factor of two numbers that cancel but for rounding."""
    rates = np.repeat(np.random.default_rng(SEED).uniform(0.98, 1, count // 40 + 1), 40)[:count]
    return np.asarray(1 / rates * rates)


def another_scale(count: int) -> Prices:
    """All prices as an earlier day saw them, before a dividend."""
    return np.full(count, 1 - 0.16 / 25.51)


@pytest.fixture(scope="module")
def con() -> duckdb.DuckDBPyConnection:
    con = duckdb.connect(":memory:", config={"threads": 2})
    for noise in (np.ones, every_bar, by_dividends, another_scale):
        shaped = bars(noise)  # noqa: F841 (DuckDB reads it)
        con.execute(f"create table {noise.__name__} as from shaped")
    for sql in built_in_files():
        if sql.is_indicator or sql.is_stage or sql.is_function:
            con.execute(sql.text)
    return con


def values(con: duckdb.DuckDBPyConnection, name: str, n: int, source: str) -> dict[str, Prices]:
    reference = references(n)[name]
    arguments = {key: literal(value) for key, value in (reference.parameters | {"source": source}).items()}
    call = f"{name}({', '.join(f'{key} := {value}' for key, value in arguments.items())})"
    columns = ", ".join(f'coalesce("{column}", \'nan\')::double as "{column}"' for column in reference.columns)
    found = con.execute(f"select {columns} from {call} order by symbol, timestamp").fetchnumpy()
    return {column: np.asarray(values) for column, values in found.items()}


@pytest.mark.parametrize("n", [2, 5, 14, 50])
@pytest.mark.parametrize("name", references(2))
def test_noise_changes_neither_values_nor_signs(con: duckdb.DuckDBPyConnection, name: str, n: int) -> None:
    clean = values(con, name, n, "ones")
    for source in ("every_bar", "by_dividends"):
        for column, noisy in values(con, name, n, source).items():
            expected = clean[column]
            assert (np.isnan(noisy) == np.isnan(expected)).all()
            assert np.nanmax(np.abs(noisy - expected) - 1e-9 * np.abs(expected), initial=0) <= 1e-10, (source, column)
            assert (np.sign(noisy) == np.sign(expected))[~np.isnan(expected)].all(), (source, column)


@pytest.mark.parametrize("name", references(2))
def test_another_scale_changes_no_sign(con: duckdb.DuckDBPyConnection, name: str) -> None:
    """A value as of an earlier day has the sign that it has today."""
    clean, scaled = values(con, name, 14, "ones"), values(con, name, 14, "another_scale")
    for column, expected in clean.items():
        assert (np.sign(scaled[column]) == np.sign(expected))[~np.isnan(expected)].all(), column


@pytest.mark.parametrize("name", ["adx", "adxr", "dx", "plus_dm", "minus_dm", "plus_di", "minus_di"])
def test_directional_movement_is_talibs_in_exact_arithmetic(con: duckdb.DuckDBPyConnection, name: str) -> None:
    """Fed with whole cents, which doubles hold exactly, TA-Lib has no last bit to decide ties by."""
    cents = Bars(*(np.round(100 * prices) for prices in (*shapes()["ties"],) + (shapes()["ties"][3],) * 2))
    expected = getattr(talib, name.upper())(*([cents.high, cents.low] + ([] if "dm" in name else [cents.close])), 14)
    place = sorted(shapes()).index("ties") * BARS
    ours = values(con, name, 14, "ones")[name][place : place + BARS]
    assert (np.isnan(ours) == np.isnan(expected)).all()
    np.testing.assert_allclose(ours * (100 if "dm" in name else 1), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["sma", "ema", "wma", "dema", "tema", "trima", "t3", "linearreg", "tsf"])
@pytest.mark.parametrize("n", [3, 7, 10, 49])
def test_an_average_of_an_unmoved_price_is_the_price(con: duckdb.DuckDBPyConnection, name: str, n: int) -> None:
    """Not above and not below it by the last bit."""
    call = f"{name}({n}, source := 'ones')"
    rows = con.execute(f"select distinct {name} from {call} where symbol = 'never moved' and {name} is not null")
    assert rows.fetchall() == [(25.37,)]


def test_cci_of_an_unmoved_price_is_zero(con: duckdb.DuckDBPyConnection) -> None:
    for n in (2, 14, 20):
        found = con.execute(
            f"select distinct cci from cci({n}, source := 'every_bar') where symbol = 'never moved' and cci is not null"
        )
        assert found.fetchall() == [(0.0,)]


def test_a_whole_panel_sees_a_tie_as_sql_does(
    make_settings: Callable[..., Settings], alpaca: AlpacaServer, tmp_path: Path
) -> None:
    """Conditions of a user's own file, on an exact fall by the dividend and on a price that rests."""
    (tmp_path / "above.sql").write_text("""\
-- above: whether the close is above its average, and above the close before.
-- n: bars | grain: symbol, timestamp | unit: 1 or 0
-- look-back: n - 1
create or replace macro above(n := 10, source := 'bars') as table (
    select
        averaged.symbol,
        averaged.timestamp,
        case when averaged.sma is not null then (prices.close > averaged.sma)::integer end as above
    from sma(n, source := source) as averaged
    join query_table(source) as prices using (symbol, timestamp)
);
comment on macro table above is 'Whether the close is above its average.';
""")
    rng = np.random.default_rng(SEED)
    symbols = [f"T{letter}" for letter in "ABCDEF"]
    for symbol in symbols:
        cents = 2551 + np.cumsum(rng.choice([-1, 0, 0, 0, 1], len(DAYS)))
        cents[60:90] = cents[60]
        serve(alpaca, symbol, [float(price) / 100 for price in cents])
        for day in (30, 70, 110):
            rate = 0.16
            for session in DAYS[day:]:
                row = alpaca.data.bars[symbol][session]
                row |= {key: round(row[key] - rate, 2) for key in ("o", "h", "l", "c", "vw")}
            file(
                alpaca, "cash_dividends", DAYS[day], symbol=symbol, rate=rate, ex_date=str(DAYS[day]), special=False,
                foreign=False,
            )  # fmt: skip
    settings = make_settings(ALCHEMISER_SQL_DIR=str(tmp_path))
    assert refresh(settings, symbols).failures == ()
    adapter = CachedMarketDataAdapter(settings, clock=lambda: MORNING, on_suspect="ignore")
    whole = {
        name: {
            (symbol, when): value
            for symbol, when, value in adapter.sql(f"select symbol, timestamp, {name} from {name}(10)").fetchall()
        }
        for name in ("above", "sma", "cci")
    }
    for start in (DAYS[29], DAYS[45], DAYS[71], DAYS[88], DAYS[111]):
        for name, expected in whole.items():
            rows = adapter.indicator(name, symbols, start=start, n=10).fetchall()
            assert rows
            for symbol, when, value in rows:
                assert value == pytest.approx(expected[symbol, when], rel=1e-12, abs=1e-9), (name, symbol, when)
                assert (value or 0) == (expected[symbol, when] or 0) or name != "above"
