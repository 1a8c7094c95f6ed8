"""A refresh stores exactly the vendor's complete bars, and reports truly."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import MORNING, TUESDAY
from s3_proxy import S3Proxy

from alchemiser_duck import DataRefreshService, MarketDataStore, Settings
from alchemiser_duck.cached_market_data_adapter import CachedMarketDataAdapter
from alchemiser_duck.errors import (
    BadParameter,
    BarNotComplete,
    ExitCode,
    FeedMismatch,
    MalformedFile,
    NothingToRefresh,
    StorageUnavailable,
)
from alchemiser_duck.ingest.merge import Changes
from alchemiser_duck.ingest.run_reports import ShortHistory
from alchemiser_duck.ingest.source import AlpacaSource
from alchemiser_duck.sandbox import AlpacaServer, Fault

START = date(2024, 1, 1)
CLOSE = datetime(2025, 7, 15, 20, tzinfo=UTC)  # 16:00 New York


def service(settings: Settings) -> DataRefreshService:
    return DataRefreshService(settings, source=AlpacaSource(settings, attempts=3, first_wait_seconds=0.02))


def stored(settings: Settings, symbol: str) -> list[dict[str, Any]]:
    rows = MarketDataStore(settings).read_bars([symbol]).to_pylist()
    return [
        {
            "t": row["timestamp"].strftime("%Y-%m-%dT%H:%M:%SZ"),
            "o": row["open"],
            "h": row["high"],
            "l": row["low"],
            "c": row["close"],
            "v": row["volume"],
            "n": row["trade_count"],
            "vw": row["vwap"],
        }
        for row in rows
    ]


def served(alpaca: AlpacaServer, symbol: str, first: date = START, last: date = TUESDAY) -> list[dict[str, Any]]:
    return [row for day, row in sorted(alpaca.data.bars[symbol].items()) if first <= day <= last]


def test_overnight_stores_exactly_what_was_served(settings: Settings, alpaca: AlpacaServer) -> None:
    report = service(settings).overnight(["AAPL", "IBM", "FB"], START, now=MORNING)
    for symbol in ("AAPL", "IBM", "FB"):
        assert stored(settings, symbol) == served(alpaca, symbol)
    assert report.status == "ok"
    assert report.exit_code == ExitCode.OK
    assert report.last_session == TUESDAY
    assert report.changes.added == sum(len(served(alpaca, symbol)) for symbol in ("AAPL", "IBM", "FB"))
    table = MarketDataStore(settings).read_bars()
    assert all(table["is_final"].to_pylist())


def test_overnight_again_writes_no_partition(settings: Settings) -> None:
    first = service(settings).overnight(["AAPL"], START, now=MORNING)
    again = service(settings).overnight(["AAPL"], START, now=MORNING)
    assert len(first.partitions_written) == 2
    assert again.partitions_written == ()
    assert again.partitions_unchanged == 2
    assert again.changes == Changes(unchanged=first.changes.added)


def test_overnight_replaces_restated_bars_and_touches_only_their_partition(
    settings: Settings, alpaca: AlpacaServer
) -> None:
    service(settings).overnight(["AAPL"], START, now=MORNING)
    alpaca.restate("AAPL", date(2024, 3, 4), c=500.0, h=501.0)
    report = service(settings).overnight(["AAPL"], START, now=MORNING)
    assert report.changes.restated == 1
    assert report.partitions_written == ("bars/timeframe=1Day/year=2024/bars.parquet",)
    assert stored(settings, "AAPL") == served(alpaca, "AAPL")


def test_overnight_uses_the_environment_s_symbols_then_the_stored_ones(make_settings: Callable[..., Settings]) -> None:
    with pytest.raises(NothingToRefresh, match="--symbols"):
        service(make_settings(ALCHEMISER_SYMBOLS=())).overnight(now=MORNING)
    report = service(make_settings(ALCHEMISER_SYMBOLS="IBM, FB")).overnight(start=START, now=MORNING)
    assert [outcome.symbol for outcome in report.outcomes] == ["IBM", "FB"]
    report = service(make_settings(ALCHEMISER_SYMBOLS=())).overnight(start=START, now=MORNING)
    assert [outcome.symbol for outcome in report.outcomes] == ["FB", "IBM"]


def test_strategies_name_the_universe_and_how_much_history_they_need(
    make_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    (tmp_path / "a.clj").write_text('(if (> (rsi "IBM" {:window 10}) 79) (asset "AAPL") (asset "BTC/USD"))')
    settings = make_settings(ALCHEMISER_SYMBOLS="FB", ALCHEMISER_STRATEGIES=str(tmp_path))
    report = service(settings).overnight(start=date(2025, 7, 7), now=MORNING)
    assert [outcome.symbol for outcome in report.outcomes] == ["FB", "AAPL", "IBM"]
    assert report.short_history == (ShortHistory("IBM", 7, 11),)
    assert service(settings).overnight(start=START, now=MORNING).short_history == ()
    (tmp_path / "b.clj").write_text('(asset "SPY"')
    with pytest.raises(MalformedFile, match=r"b\.clj:1:1"):
        service(settings).overnight(now=MORNING)


def test_history_that_cannot_be_counted_is_a_failure_of_the_report(
    make_settings: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.clj").write_text('(asset "AAPL")')
    refresh = service(make_settings(ALCHEMISER_STRATEGIES=str(tmp_path)))

    def unreachable(symbols: list[str]) -> None:
        raise StorageUnavailable("S3 is away")

    monkeypatch.setattr(refresh._store, "metadata_of", unreachable)
    report = refresh.overnight(["AAPL"], start=date(2025, 7, 7), now=MORNING)
    assert report.failures == ("stored bars could not be counted: S3 is away",)
    assert report.changes.added == 7


@pytest.mark.parametrize("symbol", ["", " AAPL", "AA,PL"])
def test_a_symbol_that_cannot_be_one_is_refused(settings: Settings, symbol: str) -> None:
    with pytest.raises(BadParameter, match="is not a symbol"):
        service(settings).overnight(["IBM", symbol], START, now=MORNING)


def test_another_feed_is_refused_before_alpaca_is_asked(
    make_settings: Callable[..., Settings], alpaca: AlpacaServer
) -> None:
    service(make_settings()).overnight(["IBM"], START, now=MORNING)
    alpaca.requests.clear()
    with pytest.raises(FeedMismatch, match="ALPACA_DATA_FEED=sip"):
        service(make_settings(ALPACA_DATA_FEED="iex")).overnight(["IBM"], date(2016, 1, 1), now=MORNING)
    assert alpaca.requests == []


def test_an_unreachable_lake_is_noticed_before_alpaca_is_asked(
    make_settings: Callable[..., Settings], alpaca: AlpacaServer
) -> None:
    with pytest.raises(StorageUnavailable):
        service(make_settings(AWS_ENDPOINT_URL_S3="http://127.0.0.1:1")).overnight(["IBM"], START, now=MORNING)
    assert alpaca.requests == []


def test_a_start_after_the_last_session_is_refused(settings: Settings) -> None:
    with pytest.raises(BadParameter, match="after the last complete session"):
        service(settings).overnight(["IBM"], date(2025, 7, 16), now=MORNING)


def test_the_report_tells_no_data_failed_and_quarantined(settings: Settings, alpaca: AlpacaServer) -> None:
    alpaca.restate("IBM", date(2025, 3, 4), c=-5.0)
    alpaca.faults = [Fault("status", times=99, status=500, symbol="FB")]
    symbols = ["AAPL", "IBM", "ZZZZ", "3USL"]
    report = service(settings).overnight(symbols, START, now=MORNING)
    by_symbol = {outcome.symbol: outcome for outcome in report.outcomes}
    assert list(by_symbol) == symbols
    assert by_symbol["AAPL"].status == "ok"
    assert by_symbol["ZZZZ"].status == "no_data"
    assert by_symbol["3USL"].status == "failed"
    assert "invalid symbol" in str(by_symbol["3USL"].reason)
    assert [(bar.symbol, bar.reason) for bar in report.quarantined] == [("IBM", "a price is not above zero")]
    assert report.status == "partial"
    assert report.exit_code == ExitCode.UNREACHABLE
    assert len(stored(settings, "IBM")) == len(served(alpaca, "IBM")) - 1


def test_a_failing_batch_is_reported_and_completed_by_the_next_run(settings: Settings, alpaca: AlpacaServer) -> None:
    alpaca.faults = [Fault("status", times=99, status=503)]
    report = service(settings).overnight(["AAPL"], START, now=MORNING)
    assert report.status == "failed"
    assert MarketDataStore(settings).list_symbols() == []
    alpaca.faults = []
    assert service(settings).overnight(["AAPL"], START, now=MORNING).status == "ok"
    assert stored(settings, "AAPL") == served(alpaca, "AAPL")


def test_the_unfinished_bar_of_today_is_never_stored(settings: Settings, alpaca: AlpacaServer) -> None:
    noon = CLOSE - timedelta(hours=4)
    alpaca.clock = lambda: noon
    service(settings).overnight(["AAPL"], START, now=noon)
    assert stored(settings, "AAPL") == served(alpaca, "AAPL", last=date(2025, 7, 14))


def test_a_bar_that_comes_uncalled_for_is_set_aside_and_reported(settings: Settings, alpaca: AlpacaServer) -> None:
    """A server that ignores `end` sends today's half-formed bar."""
    noon = CLOSE - timedelta(hours=4)
    alpaca.clock = lambda: noon
    alpaca.ignore_end = True
    report = service(settings).overnight(["AAPL"], START, now=noon)
    assert [(bar.symbol, bar.timestamp) for bar in report.quarantined] == [
        ("AAPL", datetime(2025, 7, 15, 4, tzinfo=UTC))
    ]
    assert "outside the complete sessions" in report.quarantined[0].reason
    assert stored(settings, "AAPL") == served(alpaca, "AAPL", last=date(2025, 7, 14))


def test_post_close_adds_today_in_four_requests(
    make_settings: Callable[..., Settings], proxy: S3Proxy, alpaca: AlpacaServer
) -> None:
    """Partition and actions are read, partition and run record written."""
    settings = make_settings(AWS_ENDPOINT_URL_S3=proxy.url)
    service(settings).overnight(["AAPL", "IBM", "GOOG"], START, now=CLOSE - timedelta(hours=5))
    now = CLOSE + timedelta(minutes=16)
    alpaca.clock = lambda: now
    proxy.clear()
    report = service(settings).post_close(["AAPL", "IBM", "GOOG"], now=now)
    assert proxy.methods == ["GET", "PUT", "GET", "PUT"]
    assert report.s3_requests == 4
    assert report.s3_bytes_sent == sum(exchange.sent for exchange in proxy.exchanges)
    assert report.changes == Changes(added=3)
    assert report.partitions_written == ("bars/timeframe=1Day/year=2025/bars.parquet",)
    table = MarketDataStore(settings).read_bars(start=TUESDAY)
    assert table["is_final"].to_pylist() == [False, False, False]


def test_post_close_finds_its_symbols_without_a_further_request(
    make_settings: Callable[..., Settings], proxy: S3Proxy
) -> None:
    settings = make_settings(AWS_ENDPOINT_URL_S3=proxy.url, ALCHEMISER_SYMBOLS=())
    service(settings).overnight(["AAPL", "IBM"], START, now=CLOSE - timedelta(hours=5))
    proxy.clear()
    report = service(settings).post_close(now=CLOSE + timedelta(hours=6))
    assert proxy.methods == ["GET", "PUT", "GET", "PUT"]
    assert [outcome.symbol for outcome in report.outcomes] == ["AAPL", "IBM"]


@pytest.mark.parametrize("named", [True, False])
def test_post_close_of_a_new_year_takes_one_request_more(
    make_settings: Callable[..., Settings], proxy: S3Proxy, named: bool
) -> None:
    settings = make_settings(AWS_ENDPOINT_URL_S3=proxy.url, ALCHEMISER_SYMBOLS=())
    service(settings).overnight(["AAPL", "IBM"], date(2024, 11, 1), now=datetime(2025, 1, 1, 12, tzinfo=UTC))
    proxy.clear()
    report = service(settings).post_close(["AAPL", "IBM"] if named else None, now=datetime(2025, 1, 2, 22, tzinfo=UTC))
    assert report.changes.added == 2
    assert report.partitions_written == ("bars/timeframe=1Day/year=2025/bars.parquet",)
    assert len(proxy.exchanges) == 5  # the feed of the year before


def test_post_close_into_an_empty_lake_stays_within_four_requests(
    make_settings: Callable[..., Settings], proxy: S3Proxy
) -> None:
    settings = make_settings(AWS_ENDPOINT_URL_S3=proxy.url)
    report = service(settings).post_close(["GOOG"], now=CLOSE + timedelta(hours=5))
    assert report.changes.added == 1
    assert len(proxy.exchanges) == 4


def test_overnight_finalises_the_provisional_bar(settings: Settings, alpaca: AlpacaServer) -> None:
    """At 16:16 the close is right, and the volume still grows."""
    now = CLOSE + timedelta(minutes=16)
    alpaca.clock = lambda: now
    service(settings).post_close(["AAPL"], now=now)
    early = stored(settings, "AAPL")[-1]
    final = served(alpaca, "AAPL")[-1]
    assert early["c"] == final["c"]
    assert early["v"] < final["v"]
    alpaca.clock = lambda: MORNING
    report = service(settings).overnight(["AAPL"], TUESDAY, now=MORNING)
    assert report.changes == Changes(finalised=1)
    assert stored(settings, "AAPL") == [final]
    assert MarketDataStore(settings).read_bars(["AAPL"])["is_final"].to_pylist() == [True]


@pytest.mark.parametrize(
    ("now", "day"),
    [
        (datetime(2025, 7, 4, 21, tzinfo=UTC), "2025-07-04"),  # Independence Day
        (datetime(2025, 7, 12, 21, tzinfo=UTC), "2025-07-12"),  # a Saturday
        (datetime(2025, 1, 9, 22, tzinfo=UTC), "2025-01-09"),  # closed for a day of mourning
    ],
)
def test_post_close_does_nothing_without_a_session(
    make_settings: Callable[..., Settings], proxy: S3Proxy, alpaca: AlpacaServer, now: datetime, day: str
) -> None:
    report = service(make_settings(AWS_ENDPOINT_URL_S3=proxy.url)).post_close(["AAPL"], now=now)
    assert report.note == f"{day} is not a session of the exchange: nothing to do"
    assert report.exit_code == ExitCode.OK
    assert proxy.exchanges == []
    assert alpaca.requests == []


@pytest.mark.parametrize(
    ("now", "delay", "ready"),
    [
        (CLOSE - timedelta(hours=2), 15, "2025-07-15 16:15"),
        (CLOSE + timedelta(minutes=5), 15, "2025-07-15 16:15"),
        (CLOSE - timedelta(seconds=1), 0, "2025-07-15 16:00"),
        (datetime(2025, 7, 3, 17, 5, tzinfo=UTC), 15, "2025-07-03 13:15"),  # early close before Independence Day
    ],
)
def test_post_close_refuses_too_early_with_the_time(
    make_settings: Callable[..., Settings], now: datetime, delay: int, ready: str
) -> None:
    with pytest.raises(BarNotComplete, match=f"from {ready} New York on"):
        service(make_settings(ALPACA_SIP_DELAY_MINUTES=str(delay))).post_close(["AAPL"], now=now)


def test_post_close_with_real_time_data_works_at_five_past_four(
    make_settings: Callable[..., Settings], alpaca: AlpacaServer
) -> None:
    now = CLOSE + timedelta(minutes=5)
    alpaca.free_plan = False
    alpaca.clock = lambda: now
    report = service(make_settings(ALPACA_SIP_DELAY_MINUTES="0")).post_close(["AAPL"], now=now)
    assert report.changes.added == 1


def test_post_close_waits_when_asked_to(settings: Settings, alpaca: AlpacaServer) -> None:
    now = CLOSE + timedelta(minutes=15) - timedelta(seconds=0.5)
    alpaca.clock = lambda: CLOSE + timedelta(minutes=15)
    report = service(settings).post_close(["AAPL"], now=now, wait=True)
    assert report.changes.added == 1
    assert report.started_at == CLOSE + timedelta(minutes=15)


def test_a_run_is_appended_to_the_audit_trail(settings: Settings) -> None:
    first = service(settings).overnight(["AAPL", "ZZZZ"], START, now=MORNING)
    second = service(settings).overnight(["AAPL"], START, now=MORNING + timedelta(minutes=1))
    rows = CachedMarketDataAdapter(settings).sql("from refresh_runs").to_arrow_table().to_pylist()
    assert [row["run_id"] for row in rows] == [second.run_id, first.run_id]
    row = rows[1]
    assert row["added"] == first.changes.added
    assert row["no_data"] == 1
    assert row["partitions_written"] == list(first.partitions_written)
    assert row["outcomes"][1]["symbol"] == "ZZZZ"
    assert row["alpaca_requests"] == first.alpaca_requests
    assert row["s3_requests"] == first.s3_requests - 1  # its own PUT is not counted yet


def test_years_are_fetched_in_spans_that_fit_in_memory() -> None:
    from alchemiser_duck.ingest.refresh_run import year_spans

    assert list(year_spans(date(2016, 5, 1), date(2025, 7, 15), 500)) == [(date(2016, 5, 1), date(2025, 7, 15))]
    many = list(year_spans(date(2016, 5, 1), date(2018, 7, 15), 11_000))
    assert many == [
        (date(2016, 5, 1), date(2016, 12, 31)),
        (date(2017, 1, 1), date(2017, 12, 31)),
        (date(2018, 1, 1), date(2018, 7, 15)),
    ]
    assert len(list(year_spans(date(2016, 1, 1), date(2025, 12, 31), 3_000))) == 4


def test_progress_reaches_its_total(settings: Settings) -> None:
    seen: list[tuple[int, int, int]] = []
    report = service(settings).overnight(["AAPL", "IBM"], START, now=MORNING, progress=lambda *now: seen.append(now))
    assert seen[-1] == (2, 2, report.changes.added)
