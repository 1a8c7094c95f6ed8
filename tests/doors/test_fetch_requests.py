"""Fetches on demand bring missing bars once per symbol and cooldown."""

import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import boto3
import pytest
from conftest import MORNING, TUESDAY
from s3_proxy import S3Proxy

from alchemiser_duck import CachedMarketDataAdapter, DataRefreshService, MarketDataStore, Settings
from alchemiser_duck.errors import BadParameter, UnknownSymbol
from alchemiser_duck.fetch_request_service import COOLDOWN, WORKING, FetchRequestService, _Request
from alchemiser_duck.ingest.source import AlpacaSource
from alchemiser_duck.lake.leases import CLOCK_SKEW, FetchLeases, Lease
from alchemiser_duck.lake.object_store import S3Objects
from alchemiser_duck.sandbox import AlpacaServer, Fault, Sandbox

RACE = """
import sys
from datetime import datetime, timedelta
from alchemiser_duck.fetch_request_service import FetchRequestService
now = datetime.fromisoformat(sys.argv[1]) + timedelta(seconds=float(sys.argv[2]))
service = FetchRequestService()
print("ready", flush=True)
sys.stdin.readline()
print(service.request(["AAPL"], sys.argv[2], now=now).outcomes[0].status)
"""


def service(settings: Settings) -> FetchRequestService:
    source = AlpacaSource(settings, attempts=2, first_wait_seconds=0.01)
    return FetchRequestService(settings, refresh=DataRefreshService(settings, source=source))


def bar_requests(alpaca: AlpacaServer) -> list[str]:
    return [query["symbols"] for path, query in alpaca.requests if path.endswith("/stocks/bars")]


def lease_of(settings: Settings, symbol: str) -> dict[str, str]:
    client = boto3.client("s3", endpoint_url=settings.endpoint_url, region_name="us-east-1")
    key = f"{settings.prefix}fetch_requests/{symbol}.json"
    body: dict[str, str] = json.loads(client.get_object(Bucket=settings.bucket, Key=key)["Body"].read())
    return body


def test_what_is_missing_is_fetched_and_nothing_else(settings: Settings, alpaca: AlpacaServer) -> None:
    """New symbols come whole, late ones in part, fresh ones never."""
    refresh = DataRefreshService(settings)
    refresh.overnight(["IBM"], now=datetime(2025, 7, 12, 8, tzinfo=UTC))
    refresh.overnight(["FB"], now=MORNING)
    alpaca.requests.clear()
    report = service(settings).request(["AAPL", "IBM", "FB", "AAPL"], "test", now=MORNING)
    outcomes = {outcome.symbol: (outcome.status, outcome.bars) for outcome in report.outcomes}
    assert outcomes == {
        "AAPL": ("fetched", MarketDataStore(settings).get_metadata("AAPL").bars),
        "IBM": ("fetched", 2),
        "FB": ("present", 0),
    }
    starts = {query["symbols"]: query["start"][:10] for path, query in alpaca.requests if path.endswith("/bars")}
    assert starts["IBM"] == "2025-07-12"
    assert "FB" not in starts
    assert report.status == "ok"


def test_a_second_request_is_deduplicated_until_the_cooldown_ends(settings: Settings, alpaca: AlpacaServer) -> None:
    first, second = service(settings), service(settings)
    assert first.request(["AAPL"], "a", now=MORNING).outcomes[0].status == "fetched"
    later = MORNING + timedelta(minutes=4)
    outcome = second.request(["AAPL"], "b", now=later).outcomes[0]
    assert (outcome.status, outcome.remaining_seconds) == ("deduplicated", 11 * 60)
    assert (
        second.request(["AAPL"], "b", now=MORNING + COOLDOWN - timedelta(seconds=1)).outcomes[0].status
        == "deduplicated"
    )
    assert second.request(["AAPL"], "b", now=MORNING + COOLDOWN).outcomes[0].status == "present"
    assert lease_of(settings, "AAPL")["requested_by"] == "b"


def test_symbols_of_one_request_are_one_refresh(settings: Settings, alpaca: AlpacaServer) -> None:
    report = service(settings).request(["AAPL", "IBM", "FB", "GOOG"], "test", now=MORNING)
    assert report.symbols_with("fetched") == ["AAPL", "IBM", "FB", "GOOG"]
    runs = CachedMarketDataAdapter(settings).sql("select mode, symbols from refresh_runs").fetchall()
    assert runs == [("request", 4)]


def test_requests_that_wait_for_each_other_become_one_refresh(settings: Settings, alpaca: AlpacaServer) -> None:
    """Requests that come in during a fetch are answered together."""
    shared = service(settings)
    alpaca.faults.append(Fault("hang", seconds=1.5, symbol="GOOG"))
    reports = {}

    def ask(name: str, symbols: list[str]) -> None:
        reports[name] = shared.request(symbols, name, now=MORNING)

    threads = [threading.Thread(target=ask, args=("first", ["GOOG"]))]
    threads[0].start()
    while not bar_requests(alpaca):
        threading.Event().wait(0.01)
    requests: list[tuple[str, list[str]]] = [("b", ["AAPL"]), ("c", ["IBM", "AAPL"]), ("d", ["FB"]), ("e", ["AAPL"])]
    threads += [threading.Thread(target=ask, args=pair) for pair in requests]
    for thread in threads[1:]:
        thread.start()
    for thread in threads:
        thread.join()
    statuses = Counter(outcome.status for name in "bcde" for outcome in reports[name].outcomes)
    assert statuses == {"fetched": 3, "deduplicated": 2}
    runs = CachedMarketDataAdapter(settings).sql("select symbols from refresh_runs order by symbols").fetchall()
    assert runs == [(1,), (3,)]


def test_twenty_processes_fetch_once(box: Sandbox, settings: Settings) -> None:
    """Twenty processes start at once, their clocks up to a minute apart."""
    own = {"MARKET_DATA_BUCKET": settings.market_data_bucket}
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACE, MORNING.isoformat(), str(offset)],
            env=os.environ | box.environment | own,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for offset in (60 * number / 19 for number in range(20))
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    box.alpaca.requests.clear()
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    statuses = Counter(racer.communicate(timeout=120)[0].strip() for racer in racers)
    assert statuses == {"fetched": 1, "deduplicated": 19}
    assert len(set(bar_requests(box.alpaca))) == 1
    assert MarketDataStore(settings).get_metadata("AAPL").last_date == TUESDAY


def test_many_requesters_take_one_lease_after_it_expired(settings: Settings) -> None:
    leases = [FetchLeases(S3Objects(settings)) for _ in range(20)]
    assert isinstance(leases[0].take("AAPL", "dies", MORNING, WORKING), Lease)
    takeover = MORNING + WORKING + CLOCK_SKEW
    barrier, taken = threading.Barrier(len(leases)), []

    def take(requester: FetchLeases) -> None:
        barrier.wait()
        taken.append(requester.take("AAPL", "lives", takeover, WORKING))

    threads = [threading.Thread(target=take, args=(requester,)) for requester in leases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(isinstance(lease, Lease) for lease in taken) == 1


def test_a_holder_that_died_is_taken_over_from_not_before(settings: Settings, alpaca: AlpacaServer) -> None:
    """A clock a minute ahead does not take over from the living."""
    FetchLeases(S3Objects(settings)).take("AAPL", "dies", MORNING, WORKING)
    ahead = MORNING + WORKING + timedelta(seconds=59)
    assert service(settings).request(["AAPL"], "b", now=ahead).outcomes[0].status == "deduplicated"
    assert bar_requests(alpaca) == []
    after = MORNING + WORKING + CLOCK_SKEW
    assert service(settings).request(["AAPL"], "b", now=after).outcomes[0].status == "fetched"


def test_who_was_taken_over_from_does_not_disturb(settings: Settings) -> None:
    leases = FetchLeases(S3Objects(settings))
    slow = leases.take("AAPL", "slow", MORNING, WORKING)
    takeover = MORNING + WORKING + CLOCK_SKEW
    assert isinstance(slow, Lease)
    assert isinstance(leases.take("AAPL", "next", takeover, WORKING), Lease)
    leases.release(slow, takeover)
    leases.keep(slow, takeover, COOLDOWN)
    assert lease_of(settings, "AAPL")["requested_by"] == "next"


def test_a_failed_fetch_can_be_asked_for_again_at_once(settings: Settings, alpaca: AlpacaServer) -> None:
    alpaca.faults.append(Fault("status", times=20, status=500, symbol="AAPL"))
    asking = service(settings)
    failed = asking.request(["AAPL"], "a", now=MORNING)
    assert failed.status == "failed"
    assert "500" in str(failed.outcomes[0].reason)
    alpaca.faults.clear()
    assert asking.request(["AAPL"], "a", now=MORNING).outcomes[0].status == "fetched"


def test_what_the_vendor_does_not_have_is_not_asked_for_again(settings: Settings, alpaca: AlpacaServer) -> None:
    assert service(settings).request(["ZZZ"], "a", now=MORNING).outcomes[0].status == "no_data"
    assert service(settings).request(["ZZZ"], "b", now=MORNING).outcomes[0].status == "deduplicated"


def test_an_unreadable_lease_has_expired(settings: Settings) -> None:
    S3Objects(settings).put("fetch_requests/AAPL.json", b"{", replaces=None)
    assert service(settings).request(["AAPL"], "a", now=MORNING).outcomes[0].status == "fetched"


def test_an_answer_that_was_lost_does_not_lock_its_owner_out(
    proxy: S3Proxy, make_settings: Callable[..., Settings]
) -> None:
    """The PUT arrives unanswered; boto3's retry meets our own lease."""
    settings = make_settings(AWS_ENDPOINT_URL_S3=proxy.url)
    lost = iter([True])
    proxy.after = lambda _, exchange: exchange.method == "PUT" and next(lost, False)
    assert isinstance(FetchLeases(S3Objects(settings)).take("AAPL", "a", MORNING, WORKING), Lease)


@pytest.mark.parametrize("symbols", [[], "AAPL", ["spy"], ["../x"], ["BTC/USD"]])
def test_what_is_no_list_of_tickers_is_refused(settings: Settings, symbols: list[str]) -> None:
    with pytest.raises(BadParameter):
        service(settings).request(symbols, "a", now=MORNING)


def test_class_shares_are_asked_for_in_alpacas_form(settings: Settings, alpaca: AlpacaServer) -> None:
    assert service(settings).request(["BRK/B"], "a", now=MORNING).outcomes[0].symbol == "BRK.B"
    assert bar_requests(alpaca) == ["BRK.B"]


def test_the_adapter_fetches_what_is_missing_where_it_may(settings: Settings, alpaca: AlpacaServer) -> None:
    DataRefreshService(settings).overnight(["IBM"], now=MORNING)
    with pytest.raises(UnknownSymbol):
        CachedMarketDataAdapter(settings, clock=lambda: MORNING).get_bars("AAPL")
    fetching = CachedMarketDataAdapter(settings, on_missing="fetch", clock=lambda: MORNING)
    alpaca.requests.clear()
    assert fetching.get_bars("AAPL")[-1].timestamp.date() == TUESDAY
    assert len(fetching.latest("sma", ["FB", "IBM"], n=3)) == 2
    assert bar_requests(alpaca) == ["AAPL", "FB"]
    with pytest.raises(UnknownSymbol):
        fetching.bars(["ZZZ"])
    with pytest.raises(UnknownSymbol):
        fetching.as_of("2025-07-01").get_bars("GOOG")
    with pytest.raises(BadParameter, match="neither error nor fetch"):
        CachedMarketDataAdapter(settings, on_missing="ask")  # type: ignore[arg-type]


def test_the_adapter_fills_an_empty_lake(settings: Settings) -> None:
    fetching = CachedMarketDataAdapter(settings, on_missing="fetch", clock=lambda: MORNING)
    assert len(fetching.bars(["AAPL"], start="2025-07-01")) == 10


def test_a_request_that_breaks_off_leaves_nobody_waiting(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of ours answers the whole batch; its lease expires."""
    asking = service(settings)
    monkeypatch.setattr(asking, "_fetch", lambda symbols, now: 1 / 0)
    other = _Request(["AAPL"], "waits", MORNING)
    asking._waiting.append(other)
    with pytest.raises(ZeroDivisionError):
        asking.request(["AAPL"], "leads", now=MORNING)
    assert (other.outcomes["AAPL"].status, asking._waiting) == ("failed", [])
    assert service(settings).request(["AAPL"], "b", now=MORNING).outcomes[0].status == "deduplicated"
    after = MORNING + WORKING + CLOCK_SKEW
    assert service(settings).request(["AAPL"], "b", now=after).outcomes[0].status == "fetched"
