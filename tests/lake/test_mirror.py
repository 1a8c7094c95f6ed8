"""Whole objects on this machine's disk: never stale, never torn, never left behind, and counted exactly."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest
from conftest import MORNING, bar_rows, bar_table
from s3_proxy import Exchange, S3Proxy

from alchemiser_duck import CachedMarketDataAdapter, MarketDataStore, Settings
from alchemiser_duck import exchange_calendar as calendar
from alchemiser_duck.errors import CorruptPartition, StorageUnavailable
from alchemiser_duck.lake import cached_object, listing, mirror, scan
from alchemiser_duck.lake.mirror import ObjectMirror
from alchemiser_duck.lake.scan import Scan
from alchemiser_duck.query.session import DuckDBSession
from alchemiser_duck.query.statement import Lens, Query

DAYS = calendar.sessions(date(2023, 1, 3), date(2025, 7, 15))


@pytest.fixture
def counted(settings: Settings, proxy: S3Proxy, make_settings: Callable[..., Settings]) -> Settings:
    """Three years of two symbols, and the way to them through the proxy."""
    store = MarketDataStore(settings)
    store.write_bars(bar_table(bar_rows("AAPL", DAYS) + bar_rows("IBM", DAYS, 50.0)))
    store.actions.merge([], date(2025, 7, 15), everything=True)
    return make_settings(MARKET_DATA_BUCKET=settings.market_data_bucket, AWS_ENDPOINT_URL_S3=proxy.url)


def at(settings: Settings) -> CachedMarketDataAdapter:
    return CachedMarketDataAdapter(settings, clock=lambda: MORNING)


def fetched(proxy: S3Proxy) -> list[Exchange]:
    return [exchange for exchange in proxy.exchanges if exchange.method == "GET" and ".parquet" in exchange.path]


def test_the_stats_are_what_went_over_the_wire(counted: Settings, proxy: S3Proxy) -> None:
    adapter = at(counted)
    assert adapter.last_query_stats is None
    for call in (
        lambda: adapter.get_bars("AAPL", "1Y"),
        lambda: adapter.get_bars("AAPL", "1Y"),
        lambda: adapter.latest("sma", ["AAPL", "IBM"], n=200),
        lambda: adapter.sql("select count(*) from bars"),
        lambda: adapter.indicators_table({"rsi": {}}),
    ):
        proxy.clear()
        began = time.perf_counter()
        call()
        stats = adapter.last_query_stats
        assert stats is not None
        assert stats.requests == len(proxy.exchanges)
        assert stats.bytes_received == sum(exchange.received for exchange in fetched(proxy))
        assert 0 < stats.seconds <= time.perf_counter() - began


def test_ranges_are_counted_too(counted: Settings, proxy: S3Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "FEW_SYMBOLS_LIMIT", 0)
    adapter = at(counted)
    bars = adapter.get_bars("AAPL", "1Y")
    assert adapter.last_query_stats is not None
    assert adapter.last_query_stats.requests == len(proxy.exchanges) > 5
    monkeypatch.undo()
    assert at(counted).get_bars("AAPL", "1Y") == bars


def test_a_cold_universe_takes_a_list_and_an_object_a_year(counted: Settings, proxy: S3Proxy) -> None:
    panel = {"sma": [{"n": 20}, {"n": 50}, {"n": 200}], "rsi": {"n": 14}}
    first = at(counted)
    rows = first.indicators_table(panel, ["AAPL", "IBM"], latest=True).fetchall()
    asked = sorted(exchange.method for exchange in proxy.exchanges)
    assert asked == ["GET"] * 5 + ["HEAD"] * 2  # a list, three years, actions; are there actions, is there 2026?
    proxy.clear()
    assert first.indicators_table(panel, ["AAPL", "IBM"], latest=True).fetchall() == rows
    assert sorted(exchange.method for exchange in proxy.exchanges) == ["GET", "HEAD"]
    assert fetched(proxy) == []


def test_what_was_rewritten_is_fetched_again_and_nothing_else(counted: Settings, proxy: S3Proxy) -> None:
    adapter, store = at(counted), MarketDataStore(counted)
    for price in (11.0, 12.0, 13.0):
        store.write_bars(bar_table(bar_rows("AAPL", DAYS[-1:], price)))
        proxy.clear()
        assert adapter.latest("current_price", ["AAPL", "IBM"]).fetchall()[0][2] == price
        assert adapter.bars(["AAPL"], start=DAYS[-300]).aggregate("max(close)").fetchall()[0] == (100.0,)
    assert sum("year%3D2025" in exchange.path for exchange in fetched(proxy)) == 1
    folder = adapter._session.mirror.folder
    assert len(list(folder.rglob("year=2025/bars.parquet"))) == 1  # the versions before are gone


def test_one_object_is_fetched_once_for_many_threads(counted: Settings, proxy: S3Proxy) -> None:
    proxy.before = lambda *_: time.sleep(0.05)
    adapter = at(counted)
    results: list[int] = []
    threads = [
        threading.Thread(target=lambda: results.append(len(adapter.bars(["AAPL"], start="2025-01-02"))))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [len(calendar.sessions(date(2025, 1, 2), date(2025, 7, 15)))] * 8
    assert len(fetched(proxy)) == 2  # the year, and the corporate actions


def test_readers_and_a_writer_without_pause(counted: Settings) -> None:
    """Each answer is one state of the lake: both symbols have the price of one write."""
    adapter, store = at(counted), MarketDataStore(counted)
    stop = threading.Event()

    def write() -> None:
        price = 20.0
        while not stop.is_set():
            price += 1
            store.write_bars(bar_table([row for s in ("AAPL", "IBM") for row in bar_rows(s, DAYS[-1:], price)]))

    store.write_bars(bar_table([row for s in ("AAPL", "IBM") for row in bar_rows(s, DAYS[-1:], 20.0)]))
    writer = threading.Thread(target=write)
    writer.start()
    try:
        seen = []
        for _ in range(25):
            rows = adapter.bars(["AAPL", "IBM"], start=DAYS[-1]).fetchall()
            assert len({row[6] for row in rows}) == 1
            seen.append(rows[0][6])
    finally:
        stop.set()
        writer.join()
    assert seen == sorted(seen)  # never an older state after a newer one
    assert len(set(seen)) > 1


def test_what_is_out_of_use_longest_goes_first(
    counted: Settings, proxy: S3Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "CACHE_BYTES", 1)
    session = DuckDBSession(counted)
    query = "select count(*) from bars_raw"
    for _ in range(2):
        proxy.clear()
        assert session.snapshot(query, lens=Lens(since=date(2025, 1, 1))).fetchall()[0][0] > 200
        assert len(fetched(proxy)) == 1
        assert list(session.mirror.folder.rglob("*.parquet")) == []


def test_an_object_that_breaks_off_is_fetched_again(counted: Settings, proxy: S3Proxy) -> None:
    broken: list[str] = []

    def truncate(_: int, exchange: Exchange) -> bool:
        cut = exchange.method == "GET" and "bars.parquet" in exchange.path and broken.count(exchange.path) < 2
        if cut:
            broken.append(exchange.path)
        return cut

    expected = at(counted).get_bars("AAPL", "1Y")
    proxy.truncate = truncate
    assert at(counted).get_bars("AAPL", "1Y") == expected
    assert len(broken) == 2 * 2
    proxy.truncate = lambda _, exchange: "bars.parquet" in exchange.path
    with pytest.raises(StorageUnavailable, match="S3 cannot be read"):
        at(counted).get_bars("AAPL", "1Y")


def test_a_failed_fetch_is_tried_anew_by_the_next_read(counted: Settings, proxy: S3Proxy) -> None:
    adapter = at(counted)
    proxy.truncate = lambda _, exchange: "bars.parquet" in exchange.path
    with pytest.raises(StorageUnavailable):
        adapter.get_bars("AAPL", "1Y")
    proxy.truncate = None
    assert len(adapter.get_bars("AAPL", "1Y")) == 250


def test_an_object_that_goes_away_meanwhile_is_no_error(counted: Settings, proxy: S3Proxy, settings: Settings) -> None:
    """A rebuild between the list and the fetch: the read looks again."""
    import boto3

    client = boto3.client("s3", endpoint_url=settings.endpoint_url)
    key = settings.prefix + "bars/timeframe=1Day/year=2023/bars.parquet"
    listed = threading.Event()

    def before(_: int, exchange: Exchange) -> None:
        if "year%3D2023" in exchange.path and not listed.is_set():
            listed.set()
            client.delete_object(Bucket=settings.bucket, Key=key)

    proxy.before = before
    first = at(counted).bars(["AAPL"]).aggregate("min(date)").fetchall()[0]
    assert listed.is_set()
    assert first == (calendar.sessions(date(2024, 1, 1), date(2024, 1, 10))[0],)


def test_remembered_results_are_those_of_the_same_lens_and_objects(counted: Settings) -> None:
    adapter, store = at(counted), MarketDataStore(counted)

    def newest(of: CachedMarketDataAdapter) -> float:
        return float(of.latest("sma", ["AAPL"], n=2).fetchall()[0][2])

    past = adapter.as_of(DAYS[-3])
    assert [newest(adapter), newest(past), newest(adapter), newest(past)] == [100.0] * 4
    store.write_bars(bar_table(bar_rows("AAPL", DAYS[-2:], 60.0)))
    assert [newest(adapter), newest(past)] == [60.0, 100.0]
    held = adapter.latest("sma", ["AAPL"], n=2)
    store.write_bars(bar_table(bar_rows("AAPL", DAYS[-2:], 70.0)))
    assert (held.fetchall()[0][2], newest(adapter)) == (60.0, 70.0)


def test_many_results_do_not_pile_up(counted: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alchemiser_duck.query.result_cache.VALUES_KEPT", 40)
    adapter = at(counted)
    for n in range(2, 30):
        assert len(adapter.latest("sma", ["AAPL", "IBM"], n=n)) == 2
    tables = adapter._session.connection().execute("select count(*) from duckdb_tables() where not temporary")
    assert 0 < tables.fetchall()[0][0] <= 10


def test_nothing_stays_on_disk(counted: Settings, tmp_path: Path) -> None:
    """Neither after close() nor at the end of a process, and nobody else may look in meanwhile."""
    session = DuckDBSession(counted)
    session.snapshot("select count(*) from bars")
    folder = session.mirror.folder
    assert folder.stat().st_mode & 0o077 == 0
    assert list(folder.rglob("*.parquet"))
    session.close()
    assert not folder.exists()
    code = (
        "from alchemiser_duck import CachedMarketDataAdapter as A; a = A(); a.sql('select count(*) from bars'); "
        "import os, sys; child = os.fork(); child or sys.exit(); os.waitpid(child, 0); "
        "print(len(list(a._session.mirror.folder.rglob('*.parquet'))))"
    )
    environment = os.environ | {
        "TMPDIR": str(tmp_path),
        "MARKET_DATA_BUCKET": counted.market_data_bucket,
        "AWS_ENDPOINT_URL_S3": str(counted.endpoint_url),
    }
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert int(ended.stdout) == 4  # a fork that ends takes nothing away
    assert list(tmp_path.iterdir()) == []


def test_only_the_own_server_is_asked(counted: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings go before the environment, which obstore reads by itself."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    assert len(at(counted).get_bars("AAPL", "1Y")) == 250


def test_an_interrupted_read_gives_its_files_back(counted: Settings) -> None:
    lake = ObjectMirror(counted)
    listing = lake.listing(["bars_raw"])
    assert listing.newest_day() == date(2025, 12, 31)
    with lake.copies(listing, Scan(since=date(2025, 1, 1))) as copies:
        (path,) = copies.files()["bars_raw"]
        assert [cached.readers for cached in lake._objects.values()] == [1]
    assert [cached.readers for cached in lake._objects.values()] == [0]
    assert Path(path).exists()
    lake.close()


def test_years_that_the_lens_hides_are_not_fetched(counted: Settings, proxy: S3Proxy) -> None:
    session = DuckDBSession(counted)
    for lens, years in (
        (Lens(as_of=date(2023, 6, 1)), {"2023"}),
        (Lens(since=date(2024, 6, 1), as_of=date(2024, 7, 1)), {"2024"}),
        (Lens(as_of=date(2001, 1, 1)), {"2025"}),  # none: its columns are needed all the same
    ):
        proxy.clear()
        count = session.snapshot("select count(*) from bars_raw", lens=lens).fetchall()[0][0]
        last = lens.as_of or MORNING.date()
        assert count == 2 * len([day for day in DAYS if (lens.since or DAYS[0]) <= day <= last])
        assert {exchange.path.split("year%3D")[1][:4] for exchange in fetched(proxy)} <= years


def test_large_objects_come_in_parts_of_one_version(
    counted: Settings, proxy: S3Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = at(counted).sql("from bars order by all").fetchall()
    monkeypatch.setattr(cached_object, "RANGE_BYTES", 2000)
    proxy.clear()
    adapter = at(counted)
    assert adapter.sql("from bars order by all").fetchall() == whole
    assert adapter.last_query_stats is not None
    assert adapter.last_query_stats.requests == len(proxy.exchanges) > 3 * 3
    assert adapter.last_query_stats.bytes_received == sum(exchange.received for exchange in fetched(proxy))


@pytest.fixture
def many_row_groups(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A lake of large partitions, as small ones: thirty symbols, a row group for each two or so."""
    monkeypatch.setattr("alchemiser_duck.ingest.partitions.ROW_GROUP_ROWS", 500)
    rows = [row for n in range(30) for row in bar_rows(f"S{chr(65 + n)}", DAYS, 100.0 + n)]
    MarketDataStore(settings).write_bars(bar_table(rows))
    for name, value in {"RANGE_BYTES": 10_000, "MAX_GAP": 0, "_FOOTER_BYTES": 1000}.items():
        monkeypatch.setattr(cached_object, name, value)
    monkeypatch.setattr(mirror, "MIN_SAVING", 0)
    monkeypatch.setattr(listing, "PREFETCH_YEARS", 0)
    return settings


def test_of_large_objects_come_the_columns_and_row_groups_that_are_needed(
    many_row_groups: Settings, proxy: S3Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A footer, then what the query reads; the numbers are those of whole objects."""
    counted = many_row_groups.model_copy(update={"endpoint_url": proxy.url})

    def reads(adapter: CachedMarketDataAdapter) -> list[object]:
        return [
            adapter.get_bars("SF", "2Y"),
            adapter.bars(["SC", "SZ"], start="2024-03-01", adjustment="raw").fetchall(),
            adapter.latest("rsi").fetchall(),
            adapter.indicators_table({"sma": {}, "obv": {}}, ["SB", "SY"]).fetchall(),
            adapter.indicator("sma", n=3).fetchall(),
            adapter.sql("select sum(open), sum(trade_count) from bars").fetchall(),
        ]

    adapter, took = at(counted), []
    for read in (
        lambda: adapter.get_bars("SF", "1Y"),
        lambda: adapter.latest("sma", n=20),
        lambda: adapter.sql("from bars"),
    ):
        read()
        assert adapter.last_query_stats is not None
        assert adapter.last_query_stats.bytes_received == sum(exchange.received for exchange in fetched(proxy))
        assert adapter.last_query_stats.requests == len(proxy.exchanges)
        took.append(adapter.last_query_stats.bytes_received)
        proxy.clear()
    assert took[0] < took[2] / 3
    assert took[1] < took[2] / 2

    by_parts = reads(at(counted))
    monkeypatch.setattr(mirror, "MIN_SAVING", 1 << 30)
    assert reads(at(counted)) == by_parts


@pytest.mark.parametrize("spared", [0, 1 << 30], ids=["in parts", "whole"])
@pytest.mark.parametrize("harm", ["no footer", "another footer", "half of it"])
def test_an_object_that_is_no_parquet_is_refused_by_name(
    many_row_groups: Settings, monkeypatch: pytest.MonkeyPatch, harm: str, spared: int
) -> None:
    """With one of our own errors, whatever library meets it first."""
    monkeypatch.setattr(mirror, "MIN_SAVING", spared)
    import boto3

    client = boto3.client("s3", endpoint_url=many_row_groups.endpoint_url)
    found = client.list_objects_v2(Bucket=many_row_groups.bucket)["Contents"]
    place = {"Bucket": many_row_groups.bucket, "Key": max(one["Key"] for one in found if "/bars.parquet" in one["Key"])}
    body = client.get_object(**place)["Body"].read()
    harmed = {
        "no footer": b"y" * len(body),
        "another footer": body[:-200] + b"x" * 192 + body[-8:],
        "half of it": body[: len(body) // 2],
    }
    client.put_object(**place, Body=harmed[harm])
    told = (
        f"{many_row_groups.lake_url}/bars/timeframe=1Day/year=2025/bars.parquet is damaged, or not ours .*refresh again"
    )
    with pytest.raises(CorruptPartition, match=told):
        at(many_row_groups).get_bars("SF", "2Y")


def test_a_universe_over_httpfs_gives_the_same(many_row_groups: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too much to fetch: DuckDB reads ranges of the lake, and lanes compute the same from them."""
    asked = {"linearreg": {}, "sma": {"n": 20}, "rsi": {}}
    expected = at(many_row_groups).indicators_table(asked).fetchall()
    monkeypatch.setattr(scan, "UNIVERSE_LIMIT", -1)
    adapter = at(many_row_groups)
    assert adapter.indicators_table(asked).fetchall() == expected
    assert list(adapter._session.mirror.folder.rglob("bars.parquet")) == []
    assert adapter.last_query_stats is not None
    assert adapter.last_query_stats.requests > 3


def test_a_column_that_was_not_foreseen_costs_the_whole_object(many_row_groups: Settings) -> None:
    """DuckDB does not decode a hole: the read looks again, at everything."""
    session = DuckDBSession(many_row_groups)
    query = "select sum(close), sum(open), count(distinct symbol) from bars_raw"
    expected = session.snapshot(query).fetchall()
    other = DuckDBSession(many_row_groups)
    narrow = Scan(symbols=("SA",), columns=frozenset({"close"}))

    def total(text: str) -> list[tuple[object, ...]]:
        return other.read(Query(text, "bars_raw"), narrow).fetchall()

    assert total("select sum(close) > 0 from bars_raw where symbol = 'SA'") == [(True,)]
    assert total(query) == expected


def test_parts_of_a_partition_that_is_replaced_meanwhile_are_of_one_version(
    many_row_groups: Settings, proxy: S3Proxy
) -> None:
    counted = many_row_groups.model_copy(update={"endpoint_url": proxy.url})
    adapter, store = at(counted), MarketDataStore(many_row_groups)
    replaced = threading.Event()

    def before(index: int, exchange: Exchange) -> None:
        footers = [one for one in proxy.exchanges[:index] if "year%3D2025" in one.path]
        if "year%3D2025" in exchange.path and footers and not replaced.is_set():
            replaced.set()
            store.write_bars(bar_table(bar_rows("SF", DAYS[-1:], 33.0)))

    proxy.before = before
    assert [float(bar.close) for bar in adapter.get_bars("SF", "1D")] == [33.0]
    assert replaced.is_set()


@pytest.mark.parametrize("knows_ranges", [True, False])
def test_parts_need_no_server_that_knows_them(
    many_row_groups: Settings, proxy: S3Proxy, monkeypatch: pytest.MonkeyPatch, knows_ranges: bool
) -> None:
    monkeypatch.setattr(S3Proxy, "knows_ranges", knows_ranges)
    adapter = at(many_row_groups.model_copy(update={"endpoint_url": proxy.url}))
    assert [float(bar.close) for bar in adapter.get_bars("SF", "1W")] == [105.0] * len(adapter.get_bars("SF", "1W"))
    assert len(adapter.latest("sma", n=3)) == 30


def test_many_threads_fill_one_object(many_row_groups: Settings) -> None:
    adapter = at(many_row_groups)
    results: dict[str, float] = {}

    def read(symbol: str) -> None:
        results[symbol] = float(adapter.get_bars(symbol, "1M")[-1].close)

    threads = [threading.Thread(target=read, args=(f"S{chr(65 + n)}",)) for n in range(26)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {f"S{chr(65 + n)}": 100.0 + n for n in range(26)}


def test_parts_of_different_versions_are_not_mixed(
    counted: Settings, proxy: S3Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The object is replaced between its parts: it is fetched in one, and the answer is the new one."""
    monkeypatch.setattr(cached_object, "RANGE_BYTES", 2000)
    store = MarketDataStore(counted)
    replaced = threading.Event()

    def before(_: int, exchange: Exchange) -> None:
        if exchange.method == "GET" and "year%3D2025" in exchange.path and not replaced.is_set():
            replaced.set()
            store.write_bars(bar_table(bar_rows("AAPL", DAYS[-1:], 33.0)))

    proxy.before = before
    assert [float(bar.close) for bar in at(counted).get_bars("AAPL", "1D")] == [33.0]
    assert replaced.is_set()


def test_a_server_that_sends_no_parts_sends_the_whole(
    counted: Settings, proxy: S3Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cached_object, "RANGE_BYTES", 2000)
    expected = at(counted).get_bars("AAPL", "1Y")
    monkeypatch.setattr(S3Proxy, "knows_ranges", False)
    assert at(counted).get_bars("AAPL", "1Y") == expected


def test_what_is_no_partition_is_left_alone(counted: Settings, settings: Settings) -> None:
    """The same objects as the shell's globs: a copy beside a partition does not double its bars."""
    import boto3

    client = boto3.client("s3", endpoint_url=settings.endpoint_url)
    key = settings.prefix + "bars/timeframe=1Day/year=2025/bars.parquet"
    body = client.get_object(Bucket=settings.bucket, Key=key)["Body"].read()
    for other in ("year=2025/backup.parquet", "bars.parquet", "year=2025/old/bars.parquet", "year=2025/bars.parquet.1"):
        client.put_object(Bucket=settings.bucket, Key=f"{settings.prefix}bars/timeframe=1Day/{other}", Body=body)
    assert at(counted).bars(["AAPL"]).aggregate("count(*)").fetchall()[0] == (len(DAYS),)


def test_a_full_disk_says_so(counted: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cached_object.CachedObject, "fetch", full)
    with pytest.raises(StorageUnavailable, match="No space left on device; free space, or set TMPDIR"):
        at(counted).get_bars("AAPL", "1Y")
