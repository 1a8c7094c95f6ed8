"""The first read of a process asks for objects beside the list: a round trip less, and never another answer."""

import threading
from collections.abc import Callable
from datetime import date
from decimal import Decimal

import pytest
from conftest import MORNING, bar_rows, bar_table
from s3_proxy import Exchange, S3Proxy

from alchemiser_duck import CachedMarketDataAdapter, MarketDataStore, Settings
from alchemiser_duck import exchange_calendar as calendar
from alchemiser_duck.lake import cached_object, listing

DAYS = calendar.sessions(date(2023, 1, 3), date(2025, 7, 15))


@pytest.fixture
def stored(settings: Settings) -> MarketDataStore:
    """Two and a half years of two symbols, and actions."""
    store = MarketDataStore(settings)
    store.write_bars(bar_table(bar_rows("AAPL", DAYS) + bar_rows("IBM", DAYS, 50.0)))
    store.actions.merge([], date(2025, 7, 15), everything=True)
    return store


@pytest.fixture
def through_proxy(stored: MarketDataStore, settings: Settings, proxy: S3Proxy) -> Settings:
    return settings.model_copy(update={"endpoint_url": proxy.url})


def adapter_at(settings: Settings) -> CachedMarketDataAdapter:
    return CachedMarketDataAdapter(settings, clock=lambda: MORNING)


def is_list(exchange: Exchange) -> bool:
    """Tell whether it asks what there is: a LIST, or a HEAD."""
    return "list-type" in exchange.path or exchange.method == "HEAD"


def is_object(exchange: Exchange) -> bool:
    return exchange.method == "GET" and ".parquet" in exchange.path and exchange.status < 300


def is_partition(exchange: Exchange, year: int) -> bool:
    return f"year%3D{year}/" in exchange.path


def assert_counted(adapter: CachedMarketDataAdapter, proxy: S3Proxy) -> None:
    stats = adapter.last_query_stats
    assert stats is not None
    assert stats.requests == len(proxy.exchanges)
    assert stats.bytes_received == sum(one.received for one in proxy.exchanges if is_object(one))


READS: dict[str, Callable[[CachedMarketDataAdapter], object]] = {
    "get_bars": lambda adapter: adapter.get_bars("AAPL", "1Y"),
    "latest": lambda adapter: adapter.latest("sma", ["AAPL", "IBM"], n=200).fetchall(),
    "latest of all": lambda adapter: adapter.latest("rsi").fetchall(),
    "indicator": lambda adapter: adapter.indicator("ema", ["IBM"], start="2024-02-01").fetchall(),
    "panel": lambda adapter: adapter.indicators_table({"sma": {}, "obv": {}}, start="2024-02-12").fetchall(),
}


@pytest.mark.parametrize("as_of", [None, "2024-03-01"])
@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_what_comes_early_gives_the_same_and_is_counted(
    through_proxy: Settings,
    proxy: S3Proxy,
    monkeypatch: pytest.MonkeyPatch,
    read: Callable[[CachedMarketDataAdapter], object],
    as_of: str | None,
) -> None:
    def first_read() -> tuple[object, list[str]]:
        proxy.clear()
        adapter = adapter_at(through_proxy).as_of(as_of) if as_of else adapter_at(through_proxy)
        rows = read(adapter)
        assert_counted(adapter, proxy)
        return rows, sorted(one.path for one in proxy.exchanges if one.status != 404)

    rows, asked = first_read()
    assert rows
    monkeypatch.setattr(listing, "PREFETCH_YEARS", 0)
    assert first_read() == (rows, asked)


def test_the_list_is_not_waited_for(through_proxy: Settings, proxy: S3Proxy) -> None:
    """The list is answered only when everything else has been asked for."""
    all_asked = threading.Event()

    def hold(_: int, exchange: Exchange) -> None:
        if is_list(exchange):
            assert all_asked.wait(20)
        elif len([one for one in proxy.exchanges if one.method == "GET" and ".parquet" in one.path]) == 3:
            all_asked.set()  # two partitions and the actions

    proxy.before = hold
    assert len(adapter_at(through_proxy).get_bars("AAPL", "1Y")) > 245
    assert all_asked.is_set()


def test_an_object_replaced_after_it_came_early_is_fetched_again(
    stored: MarketDataStore, through_proxy: Settings, proxy: S3Proxy
) -> None:
    came = threading.Event()

    def after(_: int, exchange: Exchange) -> bool:
        if is_partition(exchange, 2025):
            came.set()
        return False

    def before(_: int, exchange: Exchange) -> None:
        if "list-type" in exchange.path:
            assert came.wait(20)
            stored.write_bars(bar_table(bar_rows("AAPL", DAYS[-1:], 700.0)))

    proxy.before, proxy.after = before, after
    adapter = adapter_at(through_proxy)
    assert adapter.get_bars("AAPL", "1Y")[-1].close == Decimal("700.0")
    assert len([one for one in proxy.exchanges if is_partition(one, 2025)]) == 2
    assert_counted(adapter, proxy)


def test_an_object_replaced_before_it_comes_early_is_seen(
    stored: MarketDataStore, through_proxy: Settings, proxy: S3Proxy
) -> None:
    """The list has shown its older version by then."""
    listed = threading.Semaphore(0)

    def after(_: int, exchange: Exchange) -> bool:
        if is_list(exchange):
            listed.release()
        return False

    def before(_: int, exchange: Exchange) -> None:
        if is_partition(exchange, 2025) and listed.acquire(timeout=20) and listed.acquire(timeout=20):
            proxy.before = None
            stored.write_bars(bar_table(bar_rows("AAPL", DAYS[-1:], 700.0)))

    proxy.before, proxy.after = before, after
    adapter = adapter_at(through_proxy)
    assert adapter.get_bars("AAPL", "1Y")[-1].close == Decimal("700.0")
    assert_counted(adapter, proxy)


def test_what_is_not_there_is_a_request_and_no_more(through_proxy: Settings, proxy: S3Proxy) -> None:
    """A lake that nobody refreshed for a year."""
    later = CachedMarketDataAdapter(through_proxy, clock=lambda: MORNING.replace(year=2027))
    rows = later.latest("sma", ["AAPL"], n=5).fetchall()
    assert rows == adapter_at(through_proxy).latest("sma", ["AAPL"], n=5).fetchall()
    assert later.last_query_stats is not None
    missing = [one for one in proxy.exchanges if one.status == 404 and one.method == "GET"]
    assert [is_partition(one, 2027) for one in missing] == [True]


def test_a_large_object_does_not_come_early(
    through_proxy: Settings, proxy: S3Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    bars = adapter_at(through_proxy).get_bars("IBM", "1Y")
    monkeypatch.setattr(cached_object, "PREFETCH_LIMIT", 3000)
    proxy.clear()
    assert adapter_at(through_proxy).get_bars("IBM", "1Y") == bars
    asked = [one.received for one in proxy.exchanges if is_partition(one, 2024) or is_partition(one, 2025)]
    assert sorted(asked)[:2] == [3000, 3000] < sorted(asked)[2:]


@pytest.mark.parametrize(
    "read",
    [lambda adapter: adapter.latest("sma", ["AAPL", "IBM"]), lambda adapter: adapter.get_bars("IBM", "9Y")],
    ids=["many symbols", "many years"],
)
def test_what_is_large_anyway_waits_for_the_list(
    through_proxy: Settings,
    proxy: S3Proxy,
    monkeypatch: pytest.MonkeyPatch,
    read: Callable[[CachedMarketDataAdapter], object],
) -> None:
    monkeypatch.setattr(listing, "PREFETCH_SYMBOLS", 1)
    read(adapter_at(through_proxy))
    lists = [is_list(one) for one in proxy.exchanges]
    assert lists == sorted(lists, reverse=True)


def test_the_next_read_asks_for_nothing_early(stored: MarketDataStore, through_proxy: Settings, proxy: S3Proxy) -> None:
    """What is here is only asked for again when the list shows that it is another."""
    adapter = adapter_at(through_proxy)
    adapter.get_bars("AAPL", "1Y")
    stored.write_bars(bar_table(bar_rows("AAPL", [DAYS[-1]], 700.0)))
    proxy.clear()
    assert adapter.get_bars("AAPL", "1Y")[-1].close == Decimal("700.0")
    assert [is_list(one) for one in proxy.exchanges] == [True, True, False]
