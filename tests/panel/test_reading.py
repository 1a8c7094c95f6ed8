"""Ranges and newest rows: the same values as from whole histories, whatever the histories are."""

from collections.abc import Iterable
from datetime import UTC, date, datetime

import pytest
from conftest import bar_rows, bar_table
from duckdb import DuckDBPyRelation

from alchemiser_duck import CachedMarketDataAdapter, MarketDataStore, Settings
from alchemiser_duck import exchange_calendar as calendar

DAYS = calendar.sessions(date(2020, 1, 2), date(2023, 6, 30))
NOW = datetime(2023, 7, 1, 8, tzinfo=UTC)


def stored(settings: Settings, closes: dict[str, Iterable[float]]) -> CachedMarketDataAdapter:
    """Store closes that end with the last day; a symbol with fewer is younger."""
    rows = []
    for symbol, prices in closes.items():
        prices = list(prices)
        for day, close in zip(DAYS[-len(prices) :], prices, strict=True):
            rows += bar_rows(symbol, [day], close)
    MarketDataStore(settings).write_bars(bar_table(rows))
    return CachedMarketDataAdapter(settings, clock=lambda: NOW)


def wander(bars: int, seed: int = 1) -> list[float]:
    close, closes = 50.0, []
    for number in range(bars):
        close = round(close * (1 + ((number * 7919 + seed * 104729) % 201 - 100) / 5000), 2)
        closes.append(close)
    return closes


@pytest.mark.parametrize("start", ["2021-01-04", "2023-06-01"])
def test_many_symbols_lack_their_look_back(settings: Settings, start: str) -> None:
    """More of them than are read with plain windows: lanes give both parts, which are put together."""
    closes = {f"O{chr(65 + n)}": wander(len(DAYS), n) for n in range(24)}
    closes |= {f"Y{chr(65 + n)}": wander(40 + n, n) for n in range(24)}
    adapter = stored(settings, closes)
    text = f"select * from rsi() where timestamp >= '{start}' order by symbol, timestamp"
    expected = adapter.sql(text).fetchall()
    assert {row[0] for row in expected} == set(closes)
    for symbols in (None, sorted(closes)):
        rows = adapter.indicator("rsi", symbols, start=start)
        table = adapter.indicators_table({"rsi": {}, "sma": {"n": 5}}, symbols, start=start)
        for got in (rows.fetchall(), table.fetchall()):
            assert [row[:2] for row in got] == [row[:2] for row in expected]
            assert [row[2] for row in got] == [row[2] and pytest.approx(row[2], rel=1e-9) for row in expected]


RECURSIVE = {"rsi": {"n": 2}, "cmo": {"n": 3}, "dx": {"n": 2}, "plus_di": {"n": 2}, "adx": {"n": 2}, "ema": {"n": 20},
             "atr": {"n": 5}}  # fmt: skip


@pytest.mark.parametrize(
    ("names", "still"),
    [*((("rsi",), still) for still in (3, 30, 200, 700)), *((tuple(RECURSIVE), still) for still in (3, 200))],
)
def test_history_decides_where_nothing_moved_within_the_look_back(
    settings: Settings, still: int, names: tuple[str, ...]
) -> None:
    """A halted symbol, a bill fund: the average of moves is made of those before."""
    moving = wander(len(DAYS) - still)
    adapter = stored(settings, {"HALT": [*moving, *[moving[-1]] * still], "MOVES": wander(len(DAYS), 3)})
    panel = {name: RECURSIVE[name] for name in names}
    for name, parameters in panel.items():
        every = dict_of(adapter.sql(f"from {name}({', '.join(f'{k} := {v}' for k, v in parameters.items())})"))
        for got in (
            adapter.latest(name, ["HALT", "MOVES"], **parameters),
            adapter.latest(name, **parameters),
            adapter.indicator(name, start="2023-06-01", **parameters),
            adapter.indicators_table(panel, latest=True).select(f"symbol, timestamp, {name}"),
            adapter.indicators_table(panel, start="2023-06-20").select(f"symbol, timestamp, {name}"),
            adapter.latest_of({s: {name: parameters} for s in ("HALT", "MOVES")}).select("symbol, timestamp, value"),
        ):
            rows = dict_of(got)
            assert {symbol for symbol, _ in rows} == {"HALT", "MOVES"}
            for key, value in rows.items():
                assert value == pytest.approx(every[key], rel=1e-9), (name, key)


@pytest.mark.parametrize("fall", [1e-3, 3e-9, 1e4])
def test_values_are_exact_relative_to_todays_price_after_a_fall(settings: Settings, fall: float) -> None:
    """A leveraged volatility fund fell by 3.5e8: what a look-back leaves out is large beside today's price."""
    bars = len(DAYS)
    closes = [1e9 * close * fall ** (number / bars) for number, close in enumerate(wander(bars))]
    adapter = stored(settings, {"UVXY": closes})
    for name, n in (("ema", 20), ("ema", 40), ("atr", 14), ("rsi", 14)):
        every = dict_of(adapter.sql(f"from {name}(n := {n})"))
        for rows in (adapter.latest(name, n=n), adapter.indicator(name, start="2023-06-01", n=n)):
            for key, value in dict_of(rows).items():
                assert value == pytest.approx(every[key], rel=1e-10), (name, n, key)


def dict_of(rows: DuckDBPyRelation) -> dict[tuple[str, datetime], float]:
    return {(symbol, timestamp): value for symbol, timestamp, value in rows.fetchall()}
