"""The Alpaca source brings every page once, in bounded time."""

import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from email.utils import format_datetime

import pyarrow as pa
import pytest

from alchemiser_duck import Settings
from alchemiser_duck import exchange_calendar as calendar
from alchemiser_duck.errors import AlpacaRefused, AlpacaUnavailable, NoQuote, SettingsError
from alchemiser_duck.ingest.alpaca_client import LONGEST_PAUSE_SECONDS, named_pause
from alchemiser_duck.ingest.source import FETCHED_SCHEMA, AlpacaSource, FetchedBatch
from alchemiser_duck.sandbox import AlpacaServer, Fault

START = datetime(2025, 1, 1, tzinfo=calendar.NEW_YORK)
END = datetime(2025, 7, 15, 23, 59, tzinfo=calendar.NEW_YORK)


def quick(settings: Settings, attempts: int = 4, read_timeout_seconds: float = 10) -> AlpacaSource:
    return AlpacaSource(settings, attempts=attempts, first_wait_seconds=0.02, read_timeout_seconds=read_timeout_seconds)


def fetch(source: AlpacaSource, symbols: list[str], sessions: int = 135) -> FetchedBatch:
    batches = list(source.daily_bars(symbols, START, END, sessions))
    assert sum(len(batch.symbols) for batch in batches) == len(symbols)
    return FetchedBatch(
        tuple(symbols),
        pa.concat_tables([batch.bars for batch in batches]),
        tuple(bar for batch in batches for bar in batch.malformed),
        {symbol: reason for batch in batches for symbol, reason in batch.failed.items()},
        {symbol: reason for batch in batches for symbol, reason in batch.rejected.items()},
    )


def served(alpaca: AlpacaServer, symbol: str) -> list[tuple[str, float, int]]:
    rows = [
        row for day, row in sorted(alpaca.data.bars[symbol].items()) if date(2025, 1, 1) <= day <= date(2025, 7, 15)
    ]
    return [(row["t"], row["c"], row["v"]) for row in rows]


def fetched(table: pa.Table, symbol: str) -> list[tuple[str, float, int]]:
    rows = [row for row in table.to_pylist() if row["symbol"] == symbol]
    return [(row["timestamp"].strftime("%Y-%m-%dT%H:%M:%SZ"), row["close"], row["volume"]) for row in rows]


@pytest.mark.parametrize("page_rows", [None, 1_000, 100, 7])
def test_every_bar_arrives_once_however_pages_cut_the_symbols(
    settings: Settings, alpaca: AlpacaServer, page_rows: int | None
) -> None:
    alpaca.page_rows = page_rows
    answer = fetch(quick(settings), ["AAPL", "FB", "IBM"])
    assert answer.bars.schema.equals(FETCHED_SCHEMA)
    for symbol in ("AAPL", "FB", "IBM"):
        assert fetched(answer.bars, symbol) == served(alpaca, symbol)
    assert not answer.failed


def test_requests_say_all_that_matters(settings: Settings, alpaca: AlpacaServer) -> None:
    """No default of the vendor's decides: everything is in the request.

    Feed, adjustment, both ends with their offset, the largest page.
    """
    fetch(quick(settings), ["AAPL"])
    path, query = alpaca.requests[0]
    assert path == "/v2/stocks/bars"
    assert query["feed"] == "sip"
    assert query["adjustment"] == "raw"
    assert query["timeframe"] == "1Day"
    assert query["limit"] == "10000"
    assert datetime.fromisoformat(query["end"]) == END
    assert datetime.fromisoformat(query["start"]) == START


def test_batches_are_sized_by_the_rows_they_bring(settings: Settings, alpaca: AlpacaServer) -> None:
    symbols = ["AAPL", *("Z" + chr(65 + i // 26) + chr(65 + i % 26) for i in range(299))]
    fetch(quick(settings), symbols, sessions=2500)
    assert sorted(len(query["symbols"].split(",")) for _, query in alpaca.requests) == [20] * 15
    alpaca.requests.clear()
    fetch(quick(settings), symbols, sessions=1)
    assert sorted(len(query["symbols"].split(",")) for _, query in alpaca.requests) == [100, 200]


@pytest.mark.parametrize(
    "faults",
    [
        [Fault("status", times=2, status=429)],
        [Fault("status", status=500), Fault("status", status=502), Fault("status", status=503)],
        [Fault("status", status=504)],
        [Fault("reset", times=2)],
        [Fault("truncate", times=2)],
        [Fault("empty")],
        [Fault("html")],
    ],
    ids=lambda faults: faults[0].kind,
)
def test_a_passing_fault_costs_retries_and_no_bar(
    settings: Settings, alpaca: AlpacaServer, faults: list[Fault]
) -> None:
    alpaca.faults = faults
    expected = sum(fault.times for fault in faults) + 1
    source = quick(settings)
    answer = fetch(source, ["AAPL"])
    assert fetched(answer.bars, "AAPL") == served(alpaca, "AAPL")
    assert source.requests == expected == len(alpaca.requests)


def test_a_fault_on_a_later_page_costs_that_page_alone(settings: Settings, alpaca: AlpacaServer) -> None:
    alpaca.page_rows = 50
    source = quick(settings)
    fetch(source, ["AAPL"])
    pages = source.requests
    alpaca.faults = [Fault("status", status=503)]
    source = quick(settings)
    answer = fetch(source, ["AAPL"])
    assert source.requests == pages + 1
    assert fetched(answer.bars, "AAPL") == served(alpaca, "AAPL")


def test_a_silent_server_is_given_up_in_bounded_time(settings: Settings, alpaca: AlpacaServer) -> None:
    alpaca.faults = [Fault("hang", times=99, seconds=3)]
    begun = time.monotonic()
    answer = fetch(quick(settings, attempts=2, read_timeout_seconds=0.3), ["AAPL"])
    assert time.monotonic() - begun < 60, "two attempts of 0.3 s each, on however slow a machine"
    assert "cannot be reached" in answer.failed["AAPL"]
    assert "2 attempts" in answer.failed["AAPL"]


def test_one_failing_batch_never_loses_the_others(settings: Settings, alpaca: AlpacaServer) -> None:
    alpaca.faults = [Fault("status", times=99, status=500, symbol="FB")]
    answer = fetch(quick(settings, attempts=2), ["AAPL", "FB", "IBM"], sessions=40_000)
    assert set(answer.failed) == {"FB"}
    assert fetched(answer.bars, "AAPL") == served(alpaca, "AAPL")
    assert fetched(answer.bars, "IBM") == served(alpaca, "IBM")


def test_malformed_symbols_are_peeled_off_and_named(settings: Settings, alpaca: AlpacaServer) -> None:
    answer = fetch(quick(settings), ["AAPL", "3USL", "IBM", "BRK-B", "SAAB-B.ST"])
    assert set(answer.rejected) == {"3USL", "BRK-B", "SAAB-B.ST"}
    assert "invalid symbol: 3USL" in answer.rejected["3USL"]
    assert fetched(answer.bars, "IBM") == served(alpaca, "IBM")
    assert not answer.failed


def test_a_refusal_that_names_no_symbol_is_narrowed_down(settings: Settings, alpaca: AlpacaServer) -> None:
    alpaca.faults = [Fault("status", times=99, status=400, symbol="FB")]
    answer = fetch(quick(settings), ["AAPL", "FB", "GOOG", "IBM"])
    assert set(answer.rejected) == {"FB"}
    assert {"AAPL", "GOOG", "IBM"} == set(answer.bars["symbol"].to_pylist())


def test_an_unknown_symbol_is_simply_absent(settings: Settings, alpaca: AlpacaServer) -> None:
    answer = fetch(quick(settings), ["AAPL", "ZZZQQX"])
    assert set(answer.bars["symbol"].to_pylist()) == {"AAPL"}
    assert not answer.failed
    assert not answer.rejected


def test_an_endless_answer_is_noticed(settings: Settings, alpaca: AlpacaServer) -> None:
    alpaca.repeat_token = True
    answer = fetch(quick(settings), ["AAPL"])
    assert "repeats a page token" in answer.failed["AAPL"]
    assert answer.bars.num_rows == 0


def test_rows_that_are_no_bars_are_set_aside(settings: Settings, alpaca: AlpacaServer) -> None:
    days = sorted(day for day in alpaca.data.bars["AAPL"] if date(2025, 1, 1) <= day)
    good = alpaca.data.bars["AAPL"][days[0]]
    alpaca.data.bars["AAPL"] |= {
        days[1]: good | {"t": alpaca.data.bars["AAPL"][days[1]]["t"], "c": "12.5"},
        days[2]: good | {"t": alpaca.data.bars["AAPL"][days[2]]["t"], "v": "10"},
        days[3]: {key: value for key, value in alpaca.data.bars["AAPL"][days[3]].items() if key != "o"},
        days[4]: good | {"t": alpaca.data.bars["AAPL"][days[4]]["t"], "v": 2**70},
    }
    answer = fetch(quick(settings), ["AAPL", "IBM"])
    assert len(answer.malformed) == 4
    assert {bar.symbol for bar in answer.malformed} == {"AAPL"}
    assert len(fetched(answer.bars, "AAPL")) == len(served(alpaca, "AAPL")) - 4
    assert fetched(answer.bars, "IBM") == served(alpaca, "IBM")


def test_wrong_keys_stop_at_once_without_showing_them(
    make_settings: Callable[..., Settings], alpaca: AlpacaServer
) -> None:
    source = quick(make_settings(APCA_API_SECRET_KEY="very-secret-value"))
    with pytest.raises(AlpacaRefused, match="APCA_API_KEY_ID") as caught:
        fetch(source, ["AAPL"])
    assert "very-secret-value" not in str(caught.value)
    assert source.requests == 1


def test_recent_sip_data_is_a_clear_refusal(settings: Settings, alpaca: AlpacaServer) -> None:
    with pytest.raises(AlpacaRefused, match="ALPACA_SIP_DELAY_MINUTES=15"):
        list(quick(settings).daily_bars(["AAPL"], START, alpaca.clock() + timedelta(minutes=1), 10))


def test_missing_keys_say_which(make_settings: Callable[..., Settings]) -> None:
    with pytest.raises(SettingsError, match="APCA_API_KEY_ID and APCA_API_SECRET_KEY are not set"):
        AlpacaSource(make_settings(APCA_API_KEY_ID=None, APCA_API_SECRET_KEY=None))


def test_the_plan_limits_requests(make_settings: Callable[..., Settings], alpaca: AlpacaServer) -> None:
    """At two requests a minute, the third has not come yet."""
    source = quick(make_settings(ALPACA_REQUESTS_PER_MINUTE="2"))
    source.latest_quote("AAPL")
    source.latest_quote("IBM")
    assert not source._client.limiter.try_acquire("alpaca", blocking=False)
    assert len(alpaca.requests) == 2


def test_the_token_bucket_of_the_server_is_survived(settings: Settings, alpaca: AlpacaServer) -> None:
    """A server that refuses with 429 gets fewer requests, not lost bars."""
    alpaca.requests_per_minute = 600
    with alpaca._lock:
        alpaca._tokens = 1.0
    alpaca.page_rows = 30
    source = AlpacaSource(settings, attempts=8, first_wait_seconds=0.1)
    answer = fetch(source, ["AAPL"])
    assert fetched(answer.bars, "AAPL") == served(alpaca, "AAPL")
    assert source.requests > 5, "five pages, and at least one refusal"


def test_latest_quote_is_live_or_an_error(settings: Settings, alpaca: AlpacaServer) -> None:
    quote = quick(settings).latest_quote("IBM")
    assert quote.bid < quote.mid < quote.ask
    assert quote.timestamp == alpaca.clock()
    with pytest.raises(NoQuote, match="NOPE"):
        quick(settings).latest_quote("NOPE")


@pytest.mark.parametrize(
    ("delay", "bars_feed", "quote_feed", "asked"),
    [
        ("15", "sip", None, "iex"),
        ("0", "sip", None, "sip"),
        ("15", "otc", None, "otc"),
        ("15", "sip", "boats", "boats"),
        ("0", "iex", "sip", "sip"),
    ],
)
def test_quotes_come_from_the_feed_that_the_plan_covers(
    make_settings: Callable[..., Settings],
    alpaca: AlpacaServer,
    delay: str,
    bars_feed: str,
    quote_feed: str | None,
    asked: str,
) -> None:
    alpaca.free_plan = delay == "15"
    settings = make_settings(ALPACA_SIP_DELAY_MINUTES=delay, ALPACA_DATA_FEED=bars_feed, ALPACA_QUOTE_FEED=quote_feed)
    assert quick(settings).latest_quote("IBM").feed == asked
    assert alpaca.requests[-1][1]["feed"] == asked


def test_a_refused_quote_does_not_advise_another_feed_of_bars(
    make_settings: Callable[..., Settings], alpaca: AlpacaServer
) -> None:
    """A lake holds one feed: taking another for the sake of quotes would stop its refreshes."""
    with pytest.raises(AlpacaRefused, match="ALPACA_QUOTE_FEED=iex") as refused:
        quick(make_settings(ALPACA_QUOTE_FEED="sip")).latest_quote("IBM")
    assert "ALPACA_DATA_FEED" not in str(refused.value)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("header", ["Retry-After", "Retry-After as a date", "X-RateLimit-Reset"])
def test_a_pause_that_is_named_is_kept(settings: Settings, alpaca: AlpacaServer, status: int, header: str) -> None:
    """The one attempt that is left comes when the server takes requests again, not after a tenth of a second."""
    again = int(time.time()) + 3
    value = {
        "Retry-After": "2",
        "Retry-After as a date": format_datetime(datetime.fromtimestamp(again, UTC), usegmt=True),
        "X-RateLimit-Reset": str(again),
    }[header]
    alpaca.faults.append(Fault("status", status=status, headers={header.split()[0]: value}))
    begun = time.time()
    assert fetch(quick(settings, attempts=2), ["IBM"]).failed == {}
    assert time.time() >= (begun + 2 if value == "2" else again)


@pytest.mark.parametrize(
    ("headers", "pause"),
    [
        ({}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "nan", "X-RateLimit-Reset": "1010"}, None),
        ({"X-RateLimit-Reset": "nan"}, None),
        ({"X-RateLimit-Reset": "1e400"}, None),
        ({"X-RateLimit-Reset": "1010"}, 10.1),
        ({"X-RateLimit-Reset": "900"}, 0.1),
        ({"Retry-After": "7", "X-RateLimit-Reset": "1010"}, 7.1),
        ({"X-RateLimit-Reset": "99999999"}, LONGEST_PAUSE_SECONDS),
        ({"Retry-After": "86400"}, LONGEST_PAUSE_SECONDS),
        ({"Retry-After": "Thu, 01 Jan 1970 00:17:00 GMT"}, 20.1),
    ],
)
def test_pauses_are_read_and_bounded(headers: dict[str, str], pause: float | None) -> None:
    assert named_pause(headers, 1000.0) == (None if pause is None else pytest.approx(pause))


def test_an_unreachable_alpaca_says_where(make_settings: Callable[..., Settings]) -> None:
    with pytest.raises(AlpacaUnavailable, match=r"127\.0\.0\.1:1"):
        quick(make_settings(APCA_API_DATA_URL="http://127.0.0.1:1"), attempts=2).latest_quote("AAPL")
