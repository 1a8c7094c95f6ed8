"""Ranges and newest rows: the same values as from whole histories, whatever the histories are."""

from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime

import pytest
from conftest import bar_rows, bar_table

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
