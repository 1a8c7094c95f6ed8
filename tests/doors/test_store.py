"""The store writes whole partitions: no lost update, no needless write."""

import io
import threading
import time
from collections.abc import Callable
from datetime import date, timedelta

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import MORNING, bar_rows, bar_table
from s3_proxy import Exchange, S3Proxy

from alchemiser_duck import CachedMarketDataAdapter, MarketDataStore, Settings
from alchemiser_duck import exchange_calendar as calendar
from alchemiser_duck.errors import (
    BadParameter,
    CorruptPartition,
    FeedMismatch,
    StorageRefused,
    UnknownSymbol,
    UnsupportedTimeframe,
)
from alchemiser_duck.ingest.merge import BAR_SCHEMA, Changes
from alchemiser_duck.sandbox import Sandbox

DAYS_2024 = [date(2024, 12, 30), date(2024, 12, 31)]
DAYS_2025 = [date(2025, 1, 2), date(2025, 1, 3)]


def raw_object(settings: Settings, key: str) -> bytes:
    client = boto3.client("s3", endpoint_url=settings.endpoint_url, region_name="us-east-1")
    return bytes(client.get_object(Bucket=settings.bucket, Key=settings.prefix + key)["Body"].read())


def put_raw(settings: Settings, key: str, body: bytes) -> None:
    client = boto3.client("s3", endpoint_url=settings.endpoint_url, region_name="us-east-1")
    client.put_object(Bucket=settings.bucket, Key=settings.prefix + key, Body=body)


def test_write_puts_each_year_in_its_partition_readable_by_pyarrow(settings: Settings) -> None:
    store = MarketDataStore(settings)
    report = store.write_bars(bar_table(bar_rows("MSFT", DAYS_2024 + DAYS_2025) + bar_rows("AAPL", DAYS_2025)))
    assert [write.partition.key for write in report.partitions] == [
        "bars/timeframe=1Day/year=2024/bars.parquet",
        "bars/timeframe=1Day/year=2025/bars.parquet",
    ]
    file = pq.ParquetFile(io.BytesIO(raw_object(settings, "bars/timeframe=1Day/year=2025/bars.parquet")))
    table = file.read()
    assert table.schema.remove_metadata().equals(BAR_SCHEMA)
    assert table["symbol"].to_pylist() == ["AAPL", "AAPL", "MSFT", "MSFT"]
    assert table["timestamp"].to_pylist() == sorted(table["timestamp"].to_pylist()[:2]) * 2
    labels = file.schema_arrow.metadata
    assert labels[b"feed"] == b"sip"
    assert labels[b"schema_version"] == b"1"
    assert file.metadata.row_group(0).column(0).compression == "ZSTD"
    assert report.changes == {"AAPL": Changes(added=2), "MSFT": Changes(added=4)}


def test_write_again_changes_nothing_and_sends_nothing(make_settings: Callable[..., Settings], proxy: S3Proxy) -> None:
    settings = make_settings(AWS_ENDPOINT_URL_S3=proxy.url)
    table = bar_table(bar_rows("AAPL", DAYS_2025))
    MarketDataStore(settings).write_bars(table)
    proxy.clear()
    report = MarketDataStore(settings).write_bars(table)
    assert not report.partitions[0].written
    assert report.changes == {"AAPL": Changes(unchanged=2)}
    assert proxy.methods == ["GET"]


def test_read_bars_gives_back_what_was_written(settings: Settings) -> None:
    store = MarketDataStore(settings)
    rows = bar_rows("AAPL", DAYS_2024 + DAYS_2025) + bar_rows("NULL", DAYS_2025) + bar_rows("TRUE", DAYS_2025)
    store.write_bars(bar_table(rows))
    table = store.read_bars()
    assert table.schema.equals(BAR_SCHEMA)
    without_date = table.drop_columns(["date"]).to_pylist()
    assert without_date == sorted(rows, key=lambda row: (row["symbol"], row["timestamp"]))
    assert store.read_bars(["NULL"], start=date(2025, 1, 3))["date"].to_pylist() == [date(2025, 1, 3)]
    assert store.read_bars(["AAPL"], end=date(2024, 12, 30)).num_rows == 1
    assert store.read_bars([]).num_rows == 0
    assert store.list_symbols() == ["AAPL", "NULL", "TRUE"]


def test_an_empty_lake_reads_as_empty(settings: Settings) -> None:
    store = MarketDataStore(settings)
    assert store.read_bars().num_rows == 0
    assert store.list_symbols() == []
    assert store.partitions() == []
    with pytest.raises(UnknownSymbol, match="refresh --symbols AAPL"):
        store.get_metadata("AAPL")


def test_get_metadata_tells_first_last_and_count(settings: Settings) -> None:
    store = MarketDataStore(settings)
    store.write_bars(bar_table(bar_rows("AAPL", DAYS_2024 + DAYS_2025) + bar_rows("MSFT", DAYS_2025)))
    metadata = store.get_metadata("AAPL")
    assert (metadata.first_date, metadata.last_date, metadata.bars) == (DAYS_2024[0], DAYS_2025[-1], 4)


def test_drop_removes_a_symbol_and_nothing_else(settings: Settings) -> None:
    store = MarketDataStore(settings)
    store.write_bars(bar_table(bar_rows("AAPL", DAYS_2024 + DAYS_2025) + bar_rows("MSFT", DAYS_2025)))
    with pytest.raises(UnknownSymbol):
        store.drop(["MSFT", "NOPE"])
    report = store.drop(["AAPL"])
    assert [write.written for write in report.partitions] == [True, True]
    assert store.list_symbols() == ["MSFT"]
    assert store.read_bars().num_rows == 2
    assert MarketDataStore(settings).write_bars(bar_table(bar_rows("AAPL", DAYS_2024))).changes["AAPL"].added == 2


def test_writers_that_race_for_one_partition_lose_nothing(
    make_settings: Callable[..., Settings], proxy: S3Proxy
) -> None:
    """Twelve writers start together on a partition that does not exist."""
    settings = make_settings(AWS_ENDPOINT_URL_S3=proxy.url)
    # the first PUTs take so long that everybody has read by then
    proxy.before = lambda index, exchange: time.sleep(0.2) if exchange.method == "PUT" and index < 24 else None
    days = [date(2025, 1, 2) + timedelta(days=i) for i in range(20)]
    barrier = threading.Barrier(12)
    attempts = []

    def write(number: int) -> None:
        store = MarketDataStore(settings)
        table = bar_table(bar_rows(f"S{chr(65 + number)}", days, close=10.0 + number))
        barrier.wait()
        attempts.append(store.write_bars(table).partitions[0].attempts)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    table = MarketDataStore(settings).read_bars()
    assert table.num_rows == 12 * 20
    assert table.group_by("symbol").aggregate([("close", "count")])["close_count"].to_pylist() == [20] * 12
    assert len(attempts) == 12
    assert max(attempts) > 1, "nobody lost a race: the test did not test one"


def test_a_put_whose_answer_is_lost_is_counted_once(make_settings: Callable[..., Settings], proxy: S3Proxy) -> None:
    """S3 stored it, the connection broke, and boto3's retry meets 412."""
    settings = make_settings(AWS_ENDPOINT_URL_S3=proxy.url)
    cut = []

    def swallow_first_put(_: int, exchange: Exchange) -> bool:
        if exchange.method == "PUT" and not cut:
            cut.append(exchange.status)
            return True
        return False

    proxy.after = swallow_first_put
    report = MarketDataStore(settings).write_bars(bar_table(bar_rows("AAPL", DAYS_2025)))
    assert cut == [200]
    assert report.partitions[0].written
    assert report.changes == {"AAPL": Changes(added=2)}
    assert MarketDataStore(settings).read_bars().num_rows == 2


def test_answers_that_break_off_are_asked_for_again(make_settings: Callable[..., Settings], proxy: S3Proxy) -> None:
    """Every second download is cut in half, for boto3 and DuckDB."""
    settings = make_settings(AWS_ENDPOINT_URL_S3=proxy.url)
    days = calendar.sessions(date(2024, 1, 2), date(2025, 7, 15))
    MarketDataStore(settings).write_bars(bar_table(bar_rows("AAPL", days)))
    downloads: list[int] = []

    def every_second(index: int, exchange: Exchange) -> bool:
        if exchange.method == "GET" and exchange.received > 1000:
            downloads.append(index)
            return len(downloads) % 2 == 1
        return False

    proxy.truncate = every_second
    report = MarketDataStore(settings).write_bars(bar_table(bar_rows("MSFT", days)))
    assert report.changes == {"MSFT": Changes(added=len(days))}
    assert len(downloads) == 4
    bars = CachedMarketDataAdapter(settings, clock=lambda: MORNING).bars(["AAPL", "MSFT"])
    assert len(bars) == 2 * len(days)
    assert len(downloads) > 4


def test_another_feed_is_refused(make_settings: Callable[..., Settings]) -> None:
    MarketDataStore(make_settings()).write_bars(bar_table(bar_rows("AAPL", DAYS_2025)), feed="sip")
    iex = MarketDataStore(make_settings(ALPACA_DATA_FEED="iex"))
    with pytest.raises(FeedMismatch, match="holds sip bars, these are iex"):
        iex.write_bars(bar_table(bar_rows("MSFT", DAYS_2025)))
    with pytest.raises(FeedMismatch):  # also in a year that does not exist yet
        MarketDataStore(make_settings()).write_bars(bar_table(bar_rows("MSFT", [date(2026, 1, 2)])), feed="iex")
    assert MarketDataStore(make_settings()).list_symbols() == ["AAPL"]


@pytest.mark.parametrize("garbage", [b"", b"not parquet", b"PAR1" + b"\0" * 100 + b"PAR1"])
def test_an_object_that_is_no_partition_is_never_overwritten(settings: Settings, garbage: bytes) -> None:
    key = "bars/timeframe=1Day/year=2025/bars.parquet"
    put_raw(settings, key, garbage)
    with pytest.raises(CorruptPartition, match="left as it is"):
        MarketDataStore(settings).write_bars(bar_table(bar_rows("AAPL", DAYS_2025)))
    assert raw_object(settings, key) == garbage


def test_a_partition_of_a_later_schema_is_never_overwritten(settings: Settings) -> None:
    key = "bars/timeframe=1Day/year=2025/bars.parquet"
    MarketDataStore(settings).write_bars(bar_table(bar_rows("AAPL", DAYS_2025)))
    table = pq.read_table(io.BytesIO(raw_object(settings, key))).replace_schema_metadata({"schema_version": "2"})
    sink = io.BytesIO()
    pq.write_table(table, sink)
    put_raw(settings, key, sink.getvalue())
    with pytest.raises(CorruptPartition, match="schema version 2"):
        MarketDataStore(settings).write_bars(bar_table(bar_rows("MSFT", DAYS_2025)))


def test_wrong_arguments_are_named(settings: Settings) -> None:
    store = MarketDataStore(settings)
    with pytest.raises(UnsupportedTimeframe, match="1Min"):
        store.write_bars(bar_table([]), timeframe="1Min")
    with pytest.raises(BadParameter, match="columns are symbol"):
        store.write_bars(pa.table({"symbol": ["AAPL"]}))


def test_an_empty_table_writes_nothing(settings: Settings) -> None:
    assert MarketDataStore(settings).write_bars(bar_table([])).partitions == ()


def test_a_bucket_that_does_not_exist_is_named(box: Sandbox) -> None:
    store = MarketDataStore(box.settings(MARKET_DATA_BUCKET="no-such-bucket-here"))
    with pytest.raises(StorageRefused, match="no-such-bucket-here"):
        store.write_bars(bar_table(bar_rows("AAPL", DAYS_2025)))
    with pytest.raises(StorageRefused, match="no-such-bucket-here"):
        store.read_bars()
