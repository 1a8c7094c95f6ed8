"""The stand-in answers as Alpaca was seen to answer.

alpaca-py's own clients ask where they can.
"""

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
import requests
from alpaca.data.enums import DataFeed
from alpaca.data.historical.corporate_actions import CorporateActionsClient
from alpaca.data.historical.stock import StockHistoricalDataClient
from alpaca.data.requests import CorporateActionsRequest, StockBarsRequest
from alpaca.data.timeframe import TimeFrame
from conftest import MORNING, TUESDAY

from alchemiser_duck import exchange_calendar as calendar
from alchemiser_duck.sandbox import AlpacaServer, Sandbox, sandbox
from alchemiser_duck.sandbox.alpaca_server import KEY_ID, SECRET_KEY

HEADERS = {"APCA-API-KEY-ID": KEY_ID, "APCA-API-SECRET-KEY": SECRET_KEY}


def ask(alpaca: AlpacaServer, **query: str) -> requests.Response:
    full = {"timeframe": "1Day", "start": "2025-07-01", "end": "2025-07-15T12:00:00Z"} | query
    return requests.get(alpaca.url + "/v2/stocks/bars", params=full, headers=HEADERS, timeout=5)


def test_alpaca_py_pages_through_all_of_it(alpaca: AlpacaServer) -> None:
    alpaca.page_rows = 13
    client = StockHistoricalDataClient(KEY_ID, SECRET_KEY, raw_data=True, url_override=alpaca.url)
    request = StockBarsRequest(
        symbol_or_symbols=["IBM", "AAPL"],
        timeframe=TimeFrame.Day,
        start=datetime(2025, 6, 1, tzinfo=UTC),
        end=datetime(2025, 7, 14, 20, tzinfo=UTC),
        feed=DataFeed.SIP,
    )
    bars: Any = client.get_stock_bars(request)
    days = calendar.sessions(date(2025, 6, 1), date(2025, 7, 14))
    assert [bar["t"][:10] for bar in bars["AAPL"]] == [day.isoformat() for day in days]
    assert bars["IBM"] == [alpaca.data.bars["IBM"][day] for day in days]


def test_pages_are_filled_symbol_by_symbol_and_a_full_last_page_has_a_token(alpaca: AlpacaServer) -> None:
    first = ask(alpaca, symbols="IBM,AAPL", limit="15").json()
    assert {symbol: len(rows) for symbol, rows in first["bars"].items()} == {"AAPL": 10, "IBM": 5}
    second = ask(alpaca, symbols="IBM,AAPL", limit="5", page_token=first["next_page_token"]).json()
    assert {symbol: len(rows) for symbol, rows in second["bars"].items()} == {"IBM": 5}
    third = ask(alpaca, symbols="IBM,AAPL", limit="5", page_token=second["next_page_token"])
    assert third.text == '{"bars": {}, "next_page_token": null}'


def test_both_ends_are_inclusive_and_stamps_are_new_york_midnight(alpaca: AlpacaServer) -> None:
    rows = ask(alpaca, symbols="AAPL", start="2025-03-07T05:00:00Z", end="2025-03-10T04:00:00Z").json()["bars"]["AAPL"]
    assert [row["t"] for row in rows] == ["2025-03-07T05:00:00Z", "2025-03-10T04:00:00Z"]
    assert set(rows[0]) == {"t", "o", "h", "l", "c", "v", "n", "vw"}


@pytest.mark.parametrize(
    ("query", "status", "says"),
    [
        ({"symbols": "AAPL,3USL"}, 400, "invalid symbol: 3USL"),
        ({"symbols": "BRK-B"}, 400, "invalid symbol: BRK-B"),
        ({"symbols": "AAPL", "end": "2025-06-01"}, 400, "end should not be before start"),
        ({"symbols": "AAPL", "start": "soon"}, 400, "Invalid format for parameter start"),
        ({"symbols": "AAPL", "timeframe": "1Fortnight"}, 400, "invalid timeframe"),
        ({"symbols": "AAPL", "limit": "10001"}, 400, "invalid limit"),
        ({"symbols": "AAPL", "limit": "0"}, 400, "invalid limit"),
        ({"symbols": "AAPL", "page_token": "!!"}, 400, "invalid page token"),
        ({"symbols": "AAPL", "adjustment": "some"}, 400, "invalid adjustment"),
        ({"symbols": "AAPL", "end": "2025-07-16T07:46:00Z"}, 403, "recent SIP data"),
        ({"symbols": "AAPL", "end": "2030-01-01"}, 403, "recent SIP data"),
    ],
)
def test_refusals_are_worded_as_recorded(alpaca: AlpacaServer, query: dict[str, str], status: int, says: str) -> None:
    answer = ask(alpaca, **query)
    assert answer.status_code == status
    assert says in answer.json()["message"]


def test_a_wrong_key_gets_a_web_page(alpaca: AlpacaServer) -> None:
    answer = requests.get(alpaca.url + "/v2/stocks/bars", headers={**HEADERS, "APCA-API-SECRET-KEY": "x"}, timeout=5)
    assert answer.status_code == 401
    assert answer.headers["Content-Type"] == "text/html"
    assert "401 Authorization Required" in answer.text


def test_unknown_symbols_are_left_out(alpaca: AlpacaServer) -> None:
    assert ask(alpaca, symbols="ZZZQ").json() == {"bars": {}, "next_page_token": None}
    assert set(ask(alpaca, symbols="AAPL,ZZZQ").json()["bars"]) == {"AAPL"}


def test_the_bucket_of_requests_runs_dry(alpaca: AlpacaServer) -> None:
    alpaca.requests_per_minute = 1
    with alpaca._lock:
        alpaca._tokens = 2.0
    assert [ask(alpaca, symbols="AAPL").status_code for _ in range(3)] == [200, 200, 429]
    assert ask(alpaca, symbols="AAPL").json() == {"message": "too many requests."}
    assert "X-RateLimit-Limit" not in ask(alpaca, symbols="AAPL").headers
    alpaca.rate_headers = True
    assert ask(alpaca, symbols="AAPL").headers["X-RateLimit-Limit"] == "1"


def test_today_s_bar_grows_until_the_extended_close(alpaca: AlpacaServer) -> None:
    whole = alpaca.data.bars["AAPL"][TUESDAY]
    alpaca.free_plan = False
    volumes = []
    for hour in (15, 18, 21):  # 11:00, 14:00 and 17:00 in New York
        moment = datetime(2025, 7, 15, hour, tzinfo=UTC)
        alpaca.clock = lambda moment=moment: moment  # type: ignore[misc]
        bar = ask(alpaca, symbols="AAPL", start="2025-07-15", end=moment.isoformat()).json()["bars"]["AAPL"][0]
        assert (bar["c"] == whole["c"]) == (hour == 21)
        volumes.append(bar["v"])
    assert volumes == sorted(set(volumes))
    assert volumes[-1] < whole["v"]
    alpaca.clock = lambda: datetime(2025, 7, 16, 0, 30, tzinfo=UTC)
    assert ask(alpaca, symbols="AAPL", start="2025-07-15", end="2025-07-16").json()["bars"]["AAPL"] == [whole]


def test_dates_are_shifted_session_by_session_and_prices_are_not(box: Sandbox) -> None:
    with sandbox(now=MORNING, original_dates=True) as original:
        for symbol, bars in original.alpaca.data.bars.items():
            moved = box.alpaca.data.bars[symbol]
            assert [bars[day]["c"] for day in sorted(bars)] == [moved[day]["c"] for day in sorted(moved)]
        assert original.first_session == date(2000, 3, 1)
        assert original.last_session == date(2013, 3, 1)
        assert "dates are real" in original.notice
    assert box.last_session == TUESDAY
    assert sorted(box.alpaca.data.bars["AAPL"]) == calendar.sessions(box.first_session, box.last_session)
    assert "dates are shifted" in box.notice


def test_corporate_actions_move_with_their_bars(box: Sandbox) -> None:
    """The price halves on the day of a 2:1 split."""
    splits = box.alpaca.data.actions["forward_splits"]
    assert len(splits) == 2
    bars = box.alpaca.data.bars["AAPL"]
    days = sorted(bars)
    for split in splits:
        day = days.index(date.fromisoformat(split["ex_date"]))
        assert bars[days[day]]["c"] / bars[days[day - 1]]["c"] == pytest.approx(0.5, abs=0.06)
    assert len(box.alpaca.data.actions["cash_dividends"]) == 55


def actions(alpaca: AlpacaServer, **arguments: Any) -> Any:
    client = CorporateActionsClient(KEY_ID, SECRET_KEY, raw_data=True, url_override=alpaca.url)
    return client.get_corporate_actions(CorporateActionsRequest(limit=None, **arguments))


def test_corporate_actions_filter_on_the_process_date(alpaca: AlpacaServer) -> None:
    dividend = next(row for row in alpaca.data.actions["cash_dividends"] if row["symbol"] == "IBM")
    ex, processed = date.fromisoformat(dividend["ex_date"]), date.fromisoformat(dividend["process_date"])
    assert ex + timedelta(days=20) < processed
    assert actions(alpaca, symbols=["IBM"], start=ex, end=ex) == {}
    assert actions(alpaca, symbols=["IBM"], start=processed, end=processed) == {"cash_dividends": [dividend]}


def test_corporate_actions_page_to_the_end_and_default_to_today(alpaca: AlpacaServer) -> None:
    everything = actions(alpaca, start=date(2000, 1, 1), end=date(2030, 1, 1))
    assert {kind: len(rows) for kind, rows in everything.items()} == {"forward_splits": 2, "cash_dividends": 55}
    alpaca.page_rows = 7
    assert actions(alpaca, start=date(2000, 1, 1), end=date(2030, 1, 1)) == everything
    assert actions(alpaca) == {}


@pytest.mark.parametrize("adjustment", ["split", "dividend", "all"])
def test_adjusted_bars_follow_alpaca_s_formulas(alpaca: AlpacaServer, adjustment: str) -> None:
    """Prices have two decimals, and change before the ex-date only.

    A dividend's factor is close on the ex-date / (that + amount).
    """
    split = alpaca.data.actions["forward_splits"][-1]["ex_date"]
    dividend = alpaca.data.actions["cash_dividends"][2]  # AAPL's last
    raw = ask(alpaca, symbols="AAPL", start="2000-01-01", limit="10000").json()["bars"]["AAPL"]
    ours = ask(alpaca, symbols="AAPL", start="2000-01-01", limit="10000", adjustment=adjustment).json()["bars"]["AAPL"]
    assert raw[-1] == ours[-1]
    at = next(i for i, row in enumerate(raw) if row["t"][:10] == dividend["ex_date"])
    factor = raw[at]["c"] / (raw[at]["c"] + dividend["rate"]) if adjustment != "split" else 1
    assert ours[at - 1]["c"] == pytest.approx(raw[at - 1]["c"] * factor, abs=0.0051)
    if adjustment != "dividend":
        before = next(i for i, row in enumerate(raw) if row["t"][:10] == split) - 1
        assert ours[before]["v"] == 2 * raw[before]["v"]


def test_the_sandbox_leaves_the_environment_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "mine")
    monkeypatch.setenv("AWS_PROFILE", "my-profile")
    before = dict(os.environ)
    with sandbox(now=MORNING) as inner:
        assert os.environ["AWS_SECRET_ACCESS_KEY"] == "sandbox"
        assert "AWS_PROFILE" not in os.environ
        assert json.dumps(inner.environment)
    assert dict(os.environ) == before


def test_the_clock_may_be_moved_by_hand(alpaca: AlpacaServer, make_settings: Callable[..., Any]) -> None:
    alpaca.clock = lambda: MORNING - timedelta(days=7)
    rows = ask(alpaca, symbols="AAPL", end="2025-07-09T07:00:00Z").json()["bars"]["AAPL"]
    assert rows[-1]["t"][:10] == "2025-07-08"
