"""Refreshes that are killed or overtaken lose nothing and store nothing twice."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from conftest import MORNING, TUESDAY, bar_rows, bar_table
from s3_proxy import Exchange, S3Proxy

from alchemiser_duck import CachedMarketDataAdapter, DataRefreshService, MarketDataStore, Settings
from alchemiser_duck import exchange_calendar as calendar
from alchemiser_duck.sandbox import AlpacaServer, Sandbox

SYMBOLS = ["AAPL", "IBM"]
START = date(2024, 1, 1)


def environment(box: Sandbox, settings: Settings) -> dict[str, str]:
    """Return the variables of a refresh in a process of its own."""
    own = {
        "MARKET_DATA_BUCKET": settings.market_data_bucket,
        "AWS_ENDPOINT_URL_S3": str(settings.endpoint_url),
        "ALCHEMISER_SYMBOLS": "",
    }
    return os.environ | box.environment | own


def refresh_command(symbols: list[str]) -> list[str]:
    return [
        *(sys.executable, "-m", "alchemiser_duck", "refresh", "--mode", "overnight", "--symbols", ",".join(symbols)),
        *("--start", START.isoformat(), "--now", MORNING.isoformat()),
    ]


def closes(table: pa.Table, symbol: str) -> dict[date, float]:
    rows = table.filter(pc.equal(table["symbol"], symbol)).to_pylist()
    assert len({row["date"] for row in rows}) == len(rows), "a session is there twice"
    return {row["date"]: row["close"] for row in rows}


def served_closes(alpaca: AlpacaServer, symbol: str) -> dict[date, float]:
    return {day: row["c"] for day, row in alpaca.data.bars[symbol].items() if START <= day <= TUESDAY}


@pytest.mark.parametrize(
    ("moment", "first", "step"),
    [
        pytest.param("before", 0, 3, id="before every third"),
        pytest.param("after", 1, 3, id="after every third"),
        # after one request is before the next: the store has done the same
        pytest.param("before", 0, 1, id="before", marks=pytest.mark.slow),
    ],
)
def test_killed_at_any_request_the_next_run_completes_the_job(
    box: Sandbox, make_settings: Callable[..., Settings], moment: str, first: int, step: int
) -> None:
    """SIGKILL comes before, or just after, each S3 request in turn."""
    complete = served_closes(box.alpaca, "AAPL")
    index, killed = first, 0
    while True:
        with S3Proxy(box.s3_url) as proxy:
            settings = make_settings(
                MARKET_DATA_BUCKET=f"{make_settings().bucket}/{moment}-{index}", AWS_ENDPOINT_URL_S3=proxy.url
            )
            process = subprocess.Popen(
                refresh_command(SYMBOLS),
                env=environment(box, settings),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )

            def kill(at: int, _: Exchange, process: Any = process, index: int = index) -> bool:
                if at == index:
                    os.kill(process.pid, signal.SIGKILL)
                    process.wait()
                    return True
                return False

            setattr(proxy, moment, kill)
            _, stderr = process.communicate(timeout=240)
        partial = MarketDataStore(make_settings(MARKET_DATA_BUCKET=settings.market_data_bucket))
        stored = partial.read_bars()
        for symbol in SYMBOLS:  # whatever is there is right
            assert closes(stored, symbol).items() <= served_closes(box.alpaca, symbol).items()
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, stderr.decode()
        killed += 1
        again = DataRefreshService(make_settings(MARKET_DATA_BUCKET=settings.market_data_bucket))
        assert again.overnight(SYMBOLS, START, now=MORNING).status == "ok"
        for symbol in SYMBOLS:
            assert closes(partial.read_bars(), symbol) == served_closes(box.alpaca, symbol)
        index += step
    # the listing; two partitions, read and written; the neighbour's feed; the actions, read, computed from bars and
    # written; their suspects counted; the run's record
    assert killed > 10 // step
    assert closes(stored, "AAPL") == complete


@pytest.mark.parametrize("turns", [6, pytest.param(14, marks=pytest.mark.slow)])
def test_two_refreshers_at_once_lose_nothing(box: Sandbox, make_settings: Callable[..., Settings], turns: int) -> None:
    """Two refreshes start together on the same partitions, again and again."""
    bucket = make_settings().bucket
    for turn in range(turns):
        settings = make_settings(MARKET_DATA_BUCKET=f"{bucket}/turn-{turn}")
        barrier = threading.Barrier(2)

        def run(symbol: str, settings: Settings = settings, barrier: threading.Barrier = barrier) -> str:
            service = DataRefreshService(settings)
            barrier.wait()
            return service.overnight([symbol], START, now=MORNING).status

        with ThreadPoolExecutor(2) as pool:
            assert list(pool.map(run, SYMBOLS)) == ["ok", "ok"]
        table = MarketDataStore(settings).read_bars()
        for symbol in SYMBOLS:
            assert closes(table, symbol) == served_closes(box.alpaca, symbol)


def test_two_processes_at_once_lose_nothing(box: Sandbox, make_settings: Callable[..., Settings]) -> None:
    """Two processes of the command line start together."""
    settings = make_settings()
    started = [
        subprocess.Popen(refresh_command([symbol]), env=environment(box, settings), stdout=subprocess.DEVNULL)
        for symbol in SYMBOLS
    ]
    assert [process.wait(timeout=240) for process in started] == [0, 0]
    table = MarketDataStore(settings).read_bars()
    for symbol in SYMBOLS:
        assert closes(table, symbol) == served_closes(box.alpaca, symbol)


def test_reads_are_right_while_partitions_are_rewritten(settings: Settings) -> None:
    """Reads see whole partitions while a writer replaces two without pause."""
    days = calendar.sessions(date(2024, 1, 2), date(2025, 7, 15))
    symbols = [f"S{chr(65 + i // 26)}{chr(65 + i % 26)}" for i in range(60)]
    store = MarketDataStore(settings)
    stop = threading.Event()
    turns = 0

    def rewrite() -> None:
        nonlocal turns
        while not stop.is_set():
            turns += 1
            price = 100.0 + turns % 5
            store.write_bars(bar_table([row for symbol in symbols for row in bar_rows(symbol, days, price)]))

    store.write_bars(bar_table([row for symbol in symbols for row in bar_rows(symbol, days, 100.0)]))
    writer = threading.Thread(target=rewrite)
    writer.start()
    adapter = CachedMarketDataAdapter(settings, clock=lambda: datetime(2025, 7, 16, 8, tzinfo=UTC))
    reads = 0
    try:
        begun = time.monotonic()
        while (elapsed := time.monotonic() - begun) < 12 or (min(reads, turns) < 5 and elapsed < 120):
            rows = adapter.sql(
                "select year(date) as year, count(*), count(distinct symbol), "
                "min(close), max(close), min(high), max(high) from bars group by all order by year"
            ).fetchall()
            assert [row[1:3] for row in rows] == [
                (60 * sum(day.year == year for day in days), 60) for year in (2024, 2025)
            ]
            for _, _, _, low, high, least, most in rows:
                assert low == high == least - 1 == most - 1, "one partition shows two versions"
            assert len(adapter.get_bars("SAB", "1M")) == len(calendar.sessions(date(2025, 6, 16), date(2025, 7, 15)))
            assert adapter.latest("sma", symbols[:10], n=5).aggregate("count(sma)").fetchall() == [(10,)]
            reads += 1
    finally:
        stop.set()
        writer.join()
    assert reads >= 5
    assert turns >= 5
