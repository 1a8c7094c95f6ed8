"""Closures that the exchange calendar does not know: 2025-06-18 stands for one that is announced tomorrow."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from conftest import MORNING, bar_rows, bar_table
from vendor_histories import DAYS, serve

from alchemiser_duck import CachedMarketDataAdapter, DataFreshnessValidator, DataRefreshService, Settings
from alchemiser_duck import exchange_calendar as calendar
from alchemiser_duck.errors import SettingsError
from alchemiser_duck.market_data_store import MarketDataStore
from alchemiser_duck.sandbox import AlpacaServer

CLOSED = date(2025, 6, 18)
EVENING = datetime(2025, 6, 18, 22, tzinfo=UTC)
SYMBOLS = ["AA", "BB", "CC"]
STORED = {"ALCHEMISER_SYMBOLS": ""}
TOLD = STORED | {"ALCHEMISER_CLOSURES": str(CLOSED)}


@pytest.fixture
def served(alpaca: AlpacaServer) -> AlpacaServer:
    for symbol in SYMBOLS:
        serve(alpaca, symbol, [50.0 + day % 3 for day in range(len(DAYS))])
        del alpaca.data.bars[symbol][CLOSED]
    return alpaca


def overnight(settings: Settings, now: datetime = MORNING) -> None:
    assert DataRefreshService(settings).overnight(SYMBOLS, DAYS[0], now=now).failures == ()


def findings(settings: Settings, symbols: list[str] | None = None, now: datetime = MORNING) -> list[tuple[Any, ...]]:
    issues = DataFreshnessValidator(settings).findings(symbols, now=now + timedelta(minutes=5))
    return [(issue.symbol, issue.finding, issue.first_session) for issue in issues]


def test_check_names_the_day_once_and_says_what_to_set(
    make_settings: Callable[..., Settings], served: AlpacaServer
) -> None:
    settings = make_settings(**STORED)
    overnight(settings)
    expected = [("*", "no bar of any symbol", CLOSED)]
    assert findings(settings) == findings(settings, ["AA"]) == expected
    [issue] = DataFreshnessValidator(settings).findings(now=MORNING)
    assert "ALCHEMISER_CLOSURES=2025-06-18" in str(issue)
    assert DataRefreshService(settings).repair([issue], now=MORNING) == []
    closed = make_settings(
        ALCHEMISER_SYMBOLS="", ALCHEMISER_CLOSURES="2025-06-18", MARKET_DATA_BUCKET=settings.market_data_bucket
    )
    overnight(closed)
    assert findings(settings) == []  # the lake tells readers who do not know the setting
    adapter = CachedMarketDataAdapter(settings, clock=lambda: MORNING)
    assert adapter.sql(f"from sessions where date = '{CLOSED}'").fetchall() == []
    assert adapter.sql("from gaps where kind = 'vendor gap'").fetchall() == []


def test_one_symbol_that_did_not_trade_is_no_closure(
    make_settings: Callable[..., Settings], alpaca: AlpacaServer
) -> None:
    settings = make_settings(**STORED)
    serve(alpaca, "AA", [50.0] * len(DAYS))
    del alpaca.data.bars["AA"][CLOSED]
    assert DataRefreshService(settings).overnight(["AA"], DAYS[0], now=MORNING).failures == ()
    assert findings(settings) == []


def test_a_gap_beside_a_closure_is_still_a_finding(
    make_settings: Callable[..., Settings], served: AlpacaServer
) -> None:
    settings = make_settings(**STORED)
    store = MarketDataStore(settings)
    for symbol in SYMBOLS:
        days = [day for day in DAYS if day != CLOSED and (symbol, day) != ("AA", date(2025, 6, 17))]
        store.write_bars(bar_table(bar_rows(symbol, days)))
    store.write_sessions(calendar.known_sessions(MORNING))
    assert ("AA", "vendor gap", date(2025, 6, 17)) in findings(settings)


def test_the_evening_of_a_closure_waits_for_nothing(
    make_settings: Callable[..., Settings], served: AlpacaServer
) -> None:
    """The refresher knows it; the strategies, who do not, are told by the lake at once."""
    plain = make_settings(**STORED)
    overnight(plain, EVENING - timedelta(days=1))
    validator = DataFreshnessValidator(plain)
    assert validator.validate(now=EVENING).stale == tuple(SYMBOLS)
    settings = make_settings(
        ALCHEMISER_SYMBOLS="", ALCHEMISER_CLOSURES="2025-06-18", MARKET_DATA_BUCKET=plain.market_data_bucket
    )
    served.requests.clear()
    report = DataRefreshService(settings).post_close(now=EVENING)
    assert "2025-06-18 is not a session" in str(report.note)
    assert served.requests == []
    assert validator.validate(now=EVENING).is_fresh
    assert calendar.last_complete_session(EVENING, timedelta(), [CLOSED]) == date(2025, 6, 17)
    assert calendar.last_final_session(EVENING + timedelta(days=1), timedelta(), [CLOSED]) == date(2025, 6, 17)


def test_bars_on_a_day_that_is_said_to_be_closed_are_a_finding(
    make_settings: Callable[..., Settings], alpaca: AlpacaServer
) -> None:
    """A closure that is none costs bars, so it shows."""
    for symbol in SYMBOLS:
        serve(alpaca, symbol, [50.0] * len(DAYS))
    settings = make_settings(**TOLD)
    report = DataRefreshService(settings).overnight(SYMBOLS, DAYS[0], now=MORNING)
    assert len(report.quarantined) == 3
    assert findings(settings) == [("*", "bars without a session", CLOSED)]


def test_a_saturdays_bar_does_not_stand_for_fridays(settings: Settings) -> None:
    """Older versions stored what the vendor tests with on Saturdays."""
    store = MarketDataStore(settings)
    friday, saturday = date(2025, 7, 11), date(2025, 7, 12)
    store.write_bars(bar_table(bar_rows("AA", [day for day in DAYS if day < friday] + [saturday])))
    store.write_sessions(calendar.known_sessions(MORNING))
    report = DataFreshnessValidator(settings).validate(["AA"], now=datetime(2025, 7, 12, 16, tzinfo=UTC))
    assert (report.stale, report.sessions_behind["AA"]) == (("AA",), 1)


@pytest.mark.parametrize("text", ["soon", "2025-13-01", "2025-01-09;2025-01-10"])
def test_what_is_no_day_is_refused(make_settings: Callable[..., Settings], text: str) -> None:
    with pytest.raises(SettingsError, match=r"ALCHEMISER_CLOSURES.*export ALCHEMISER_CLOSURES=2025-01-09"):
        make_settings(ALCHEMISER_CLOSURES=text)


def test_days_are_separated_like_symbols(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings(ALCHEMISER_CLOSURES="2025-01-09, 2026-03-02  2025-01-09")
    assert settings.closures == (date(2025, 1, 9), date(2026, 3, 2))
