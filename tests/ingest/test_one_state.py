"""Bars and actions are two objects: what a reader sees between any two requests of a refresh, over the wire."""

import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import pairwise
from threading import Event
from typing import Any

import pytest
from s3_proxy import Answer, Exchange, S3Proxy
from vendor_histories import DAYS, EX, HALVED, START, file, reader, serve, split

from alchemiser_duck import CachedMarketDataAdapter, DataRefreshService, MarketDataStore, Settings
from alchemiser_duck.errors import MissingActions, StorageRefused, SuspectPrices, UnknownSymbol
from alchemiser_duck.ingest.source import AlpacaSource
from alchemiser_duck.lake.keys import ACTIONS
from alchemiser_duck.sandbox import AlpacaServer

BEFORE, EVENING, NIGHT = (
    datetime(day.year, day.month, day.day, hour, minute, tzinfo=UTC)
    for day, hour, minute in [(DAYS[19], 23, 0), (EX, 21, 30), (DAYS[21], 9, 0)]
)


@pytest.fixture(autouse=True)
def no_actions(alpaca: AlpacaServer) -> None:
    alpaca.data.actions.clear()


def service(settings: Settings) -> DataRefreshService:
    return DataRefreshService(settings, source=AlpacaSource(settings, attempts=2, first_wait_seconds=0.02))


def prices(adapter: CachedMarketDataAdapter, symbol: str) -> list[float]:
    return [close for (close,) in adapter.bars(symbol).select("close").fetchall()]


def is_smooth(closes: list[float]) -> bool:
    return all(abs(later / earlier - 1) < 0.1 for earlier, later in pairwise(closes))


@pytest.fixture
def two_splits(settings: Settings, alpaca: AlpacaServer) -> None:
    """A lake on the eve of a split of 2:1, of a reverse one of 1:2, and of a dividend of 5."""
    serve(alpaca, "HALF", HALVED)
    serve(alpaca, "TWICE", [50.0] * 20 + [100.0] * 200)
    serve(alpaca, "PAYER", [100.0] * 20 + [95.0] * 200)
    assert service(settings).overnight(["HALF", "TWICE", "PAYER"], START, now=BEFORE).failures == ()
    split(alpaca, "HALF", EX)
    file(alpaca, "reverse_splits", EX, symbol="TWICE", new_rate=1, old_rate=2, ex_date=str(EX),
         old_cusip="C2", new_cusip="C3")  # fmt: skip
    file(alpaca, "cash_dividends", EX, symbol="PAYER", rate=5.0, special=False, foreign=False, ex_date=str(EX))


def run(settings: Settings, mode: str) -> Any:
    if mode == "post_close":
        return service(settings).post_close(["HALF", "TWICE", "PAYER"], now=EVENING)
    return service(settings).overnight(["HALF", "TWICE", "PAYER"], START, now=NIGHT)


@pytest.mark.usefixtures("two_splits")
@pytest.mark.parametrize("mode", ["post_close", "overnight"])
def test_no_reader_meets_half_a_split(
    settings: Settings, make_settings: Callable[..., Settings], proxy: S3Proxy, mode: str
) -> None:
    """Read before every request of a refresh, with an old adapter and a new one."""
    old = reader(settings)
    seen: list[list[float]] = []

    def read(_: int, __: Exchange) -> None:
        for adapter in (old, reader(settings)):
            seen.extend(prices(adapter, symbol) for symbol in ("HALF", "TWICE", "PAYER"))

    proxy.before = read
    report = run(make_settings(AWS_ENDPOINT_URL_S3=proxy.url), mode)
    assert len(seen) == 6 * len(proxy.exchanges), "a read failed"
    assert all(map(is_smooth, seen))
    assert report.failures == ()
    assert report.new_suspects == 0
    assert {len(closes) for closes in seen} == {20, 21}
    assert prices(reader(settings), "HALF") == [50.0] * 21
    assert {exchange.method for exchange in proxy.exchanges} >= {"GET", "PUT"}


@pytest.mark.usefixtures("two_splits")
def test_a_run_that_dies_between_both_leaves_the_harmless_half(
    settings: Settings, make_settings: Callable[..., Settings], proxy: S3Proxy
) -> None:
    """The bars of the split's day are refused: prices are to another scale, and no day falls."""

    def cut(_: int, exchange: Exchange) -> Any:
        return Answer(403, {}, b"") if exchange.method == "PUT" and "/bars/" in exchange.path else None

    proxy.instead = cut
    with pytest.raises(StorageRefused):
        run(make_settings(AWS_ENDPOINT_URL_S3=proxy.url), "post_close")
    assert prices(reader(settings), "HALF") == [50.0] * 20
    assert run(settings, "post_close").failures == ()
    assert prices(reader(settings), "HALF") == [50.0] * 21


@pytest.mark.usefixtures("two_splits")
def test_a_reader_that_lists_actions_before_and_bars_after_a_run_reads_again(
    settings: Settings, make_settings: Callable[..., Settings], proxy: S3Proxy
) -> None:
    """The actions are answered before a run, the answer arrives after it, and so does the question about the bars."""
    listed, done = Event(), Event()
    held: set[str] = set()

    def after(_: int, exchange: Exchange) -> bool:
        if exchange.path.endswith(ACTIONS) and not done.is_set():
            held.add(exchange.method)
            if held == {"HEAD", "GET"}:
                listed.set()
            done.wait(30)
        return False

    def before(_: int, exchange: Exchange) -> None:
        if "list-type" in exchange.path and "bars" in exchange.path:
            listed.wait(30)
            if not done.is_set():
                run(settings, "post_close")
                done.set()

    adapter = reader(make_settings(AWS_ENDPOINT_URL_S3=proxy.url))
    proxy.before, proxy.after = before, after
    assert [float(bar.close) for bar in adapter.get_bars("HALF", "1Y", "1D")] == [50.0] * 21
    assert held == {"HEAD", "GET"}
    lists = [exchange for exchange in proxy.exchanges if "list-type" in exchange.path]
    assert len(lists) == 2, "it listed again"


def test_new_symbols_are_not_handed_out_unadjusted_while_their_history_comes(
    settings: Settings, make_settings: Callable[..., Settings], proxy: S3Proxy, alpaca: AlpacaServer
) -> None:
    """A dividend needs the close before it, which comes with the same run: until then, readers are told."""
    serve(alpaca, "OLD", [10.0] * 200)
    assert service(settings).overnight(["OLD"], START, now=BEFORE).failures == ()
    serve(alpaca, "NEW", [100.0] * 10 + [95.0] * 10 + [47.5] * 200)
    file(alpaca, "cash_dividends", DAYS[10], symbol="NEW", rate=5.0, special=False, foreign=False,
         ex_date=str(DAYS[10]))  # fmt: skip
    split(alpaca, "NEW", EX)
    told: list[str] = []

    def read(_: int, __: Exchange) -> None:
        try:
            closes = prices(reader(settings), "NEW")
        except (SuspectPrices, UnknownSymbol) as problem:
            told.append(type(problem).__name__)
        else:
            told.append("right" if closes == [47.5] * len(closes) and len(closes) == 21 else f"wrong {closes}")
        assert is_smooth(prices(reader(settings), "OLD"))

    proxy.before = read
    report = service(make_settings(AWS_ENDPOINT_URL_S3=proxy.url)).overnight(["OLD", "NEW"], START, now=NIGHT)
    assert report.failures == ()
    proxy.before = None
    read(0, Exchange("", ""))
    assert told[0] == "UnknownSymbol"
    assert told[-1] == "right"
    assert set(told) == {"UnknownSymbol", "SuspectPrices", "right"}


def test_actions_that_are_older_than_the_bars_stop_a_reader_until_the_next_night(
    settings: Settings, alpaca: AlpacaServer
) -> None:
    """Somebody restores an earlier version of the actions: no price is given, and one refresh mends it."""
    serve(alpaca, "HALF", HALVED)
    assert service(settings).overnight(["HALF"], START, now=BEFORE).failures == ()
    objects = MarketDataStore(settings).actions._objects
    earlier = objects.get(ACTIONS)
    assert earlier
    split(alpaca, "HALF", EX)
    assert service(settings).post_close(["HALF"], now=EVENING).failures == ()
    newer = objects.get(ACTIONS)
    assert newer
    objects.put(ACTIONS, earlier.body, replaces=newer.etag)
    with pytest.raises(MissingActions, match="refresh --mode overnight"):
        prices(reader(settings), "HALF")
    assert reader(settings).bars("HALF", adjustment="raw").fetchall()
    assert service(settings).overnight(["HALF"], START, now=NIGHT).failures == ()
    assert prices(reader(settings), "HALF") == [50.0] * 21


def test_a_missing_split_is_told_on_the_evening_of_its_day(settings: Settings, alpaca: AlpacaServer) -> None:
    serve(alpaca, "HALF", HALVED)
    assert service(settings).overnight(["HALF"], START, now=BEFORE).failures == ()
    report = service(settings).post_close(["HALF"], now=EVENING)
    assert report.new_suspects == 1
    with pytest.raises(SuspectPrices, match="missing split"):
        prices(reader(settings), "HALF")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        CachedMarketDataAdapter(settings, clock=lambda: EVENING, on_suspect="ignore").bars("HALF")
    split(alpaca, "HALF", EX)
    assert service(settings).overnight(["HALF"], START, now=NIGHT).new_suspects == 0
    assert prices(reader(settings), "HALF") == [50.0] * 21


def test_what_is_noted_of_earlier_days_stays_through_an_evening(settings: Settings, alpaca: AlpacaServer) -> None:
    """An evening looks at a few days only."""
    serve(alpaca, "HALF", HALVED)
    serve(alpaca, "OLD", [100.0] * 2 + [50.0] * 200)
    assert service(settings).overnight(["HALF", "OLD"], START, now=BEFORE).failures == ()
    service(settings).post_close(["HALF", "OLD"], now=EVENING)
    for symbol, day in (("HALF", EX), ("OLD", DAYS[2])):
        with pytest.raises(SuspectPrices, match=f"{symbol} {day}"):
            prices(reader(settings), symbol)
