"""W1 to W4 of PERFORMANCE.md beside the peers: S3 with a round trip of 20 ms, each contender in a fresh process.

    make bench               or:  python tests/benchmarks/workloads.py --workloads w1 --symbols 100 --json results.json

Every result is compared with this layer's on raw bars (1e-8) before anything is timed. Medians of five runs, imports
not timed; the layer reads adjusted bars, 40 dividends and a split a symbol, the peers raw ones. Exit status 1: results
differ.
"""

import argparse
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

import boto3
import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent))

from contenders import BUCKET, CONTENDERS, NOW, PREFIX, REFERENCE, Contender  # noqa: E402
from s3_proxy import S3Proxy  # noqa: E402

from alchemiser_duck import MarketDataStore, Settings  # noqa: E402
from alchemiser_duck import exchange_calendar as calendar  # noqa: E402
from alchemiser_duck.ingest.corporate_actions import read_actions  # noqa: E402
from alchemiser_duck.lake.parquet import small_parquet  # noqa: E402

WORKLOADS = {
    "w1": "newest SMA 20/50/200 and RSI 14 of every symbol, cold process",
    "w1_again": "the same again in that process",
    "w2": "panel of eight over all history, as Arrow, from S3",
    "w2_loaded": "the same, the bars in the process or on its disk",
    "w3": "a year of one symbol, cold process",
    "w3_again": "the same again",
    "w3_other": "another symbol then",
    "w3_warmed": "a year of one symbol after warm_cache; peers: bars loaded",
    "w4": "today's bar of every symbol into the lake, Alpaca excluded, in a process that has done so before",
}
ROUND_TRIP = 0.02
KEYS = {"AWS_ACCESS_KEY_ID": "benchmark-key", "AWS_SECRET_ACCESS_KEY": "benchmark-secret", "AWS_REGION": "us-east-1"}


@dataclass(frozen=True)
class Measured:
    """Medians over the runs of one contender and workload."""

    contender: str
    workload: str
    seconds: float
    requests: float
    megabytes: float
    peak_mib: float


def symbols_named(count: int) -> list[str]:
    digits = str.maketrans("0123456789", "ABCDEFGHIJ")
    return [f"S{number:04d}".translate(digits) for number in range(count)]


def bars_of(symbols: list[str], years: int) -> pa.Table:
    """Closes that wander, the same every time: the steps are hashes."""
    days = calendar.sessions(NOW.date() - timedelta(days=round(365.25 * years)), NOW.date() - timedelta(days=1))
    stamps = [datetime(day.year, day.month, day.day, tzinfo=calendar.NEW_YORK) for day in days]
    con = duckdb.connect(config={"threads": 2})
    con.execute("set timezone = 'UTC'")
    con.register("days", pa.table({"timestamp": pa.array(stamps, pa.timestamp("us", tz="UTC"))}))
    con.register("names", pa.table({"symbol": symbols, "number": range(len(symbols))}))
    wander = "0.0002 * sum(hash(number * 100000 + day) % 2001 / 10.0 - 100) over (partition by symbol order by day)"
    return con.sql(
        f"""
        with numbered as (select timestamp, row_number() over (order by timestamp) as day from days),
        closes as (select symbol, timestamp, number, day, round(100 * exp({wander}), 4) as close from names, numbered)
        select
            symbol, timestamp, close as open, close * 1.01 as high, close * 0.99 as low, close, close as vwap,
            (hash(number * 3 + day) % 10000000)::bigint + 1 as volume, 1000::bigint as trade_count, true as is_final
        from closes order by symbol, timestamp
        """
    ).to_arrow_table()


def fill(url: str, symbols: list[str], years: int) -> None:
    """The lake through the store, with actions; and an object per symbol for who reads those."""
    settings = Settings.from_environment(MARKET_DATA_BUCKET=f"{BUCKET}/{PREFIX}", AWS_ENDPOINT_URL_S3=url)
    store = MarketDataStore(settings)
    bars = bars_of(symbols, years)
    store.write_bars(bars)
    store.write_sessions(calendar.session_table(date(2000, 1, 1), date(2026, 12, 31)))
    days = [stamp.date() for stamp in pl.from_arrow(bars)["timestamp"].unique().sort()]  # type: ignore[union-attr]
    paid = days[30 :: max(1, len(days) // 40)]
    lists = {
        "cash_dividends": [
            {"id": f"d-{s}-{d}", "symbol": s, "rate": 0.2, "ex_date": str(d), "process_date": str(d)}
            for s in symbols
            for d in paid
        ],
        "forward_splits": [
            {"id": f"s-{s}", "symbol": s, "new_rate": 2, "old_rate": 1, "ex_date": str(d), "process_date": str(d)}
            for s in symbols
            for d in [days[len(days) // 2]]
        ],
    }
    store.actions.merge(read_actions(lists, NOW)[0], NOW.date(), everything=True)
    client, stored = boto3.client("s3", endpoint_url=url), store.read_bars().sort_by("symbol")
    start = 0
    for count in pc.value_counts(stored["symbol"]).to_pylist():
        body = small_parquet(stored.slice(start, count["counts"]))
        client.put_object(Bucket=BUCKET, Key=f"per_symbol/{count['values']}.parquet", Body=body)
        start += count["counts"]


@contextmanager
def s3(root: Path) -> Iterator[str]:
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port = chosen.getsockname()[1]
    keys = f"{KEYS['AWS_ACCESS_KEY_ID']},{KEYS['AWS_SECRET_ACCESS_KEY']}"
    rclone = Path(sys.executable).parent / "rclone"
    command = [rclone, "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", keys, str(root)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.05)
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


class Arena:
    """Runs contenders against the proxy."""

    def __init__(self, proxy: S3Proxy, symbols: list[str], folder: Path) -> None:
        self.proxy = proxy
        self.folder = folder
        self.environment = (
            os.environ
            | KEYS
            | {
                "AWS_ENDPOINT_URL_S3": proxy.url,
                "MARKET_DATA_BUCKET": f"{BUCKET}/{PREFIX}",
                "BENCHMARK_SYMBOLS": json.dumps(symbols),
            }
        )

    def run(self, contender: type[Contender], workload: str) -> tuple[float, ...]:
        """Seconds, requests, megabytes and peak MiB of one run."""
        self.proxy.clear()
        ended = subprocess.run(
            [sys.executable, FOLDER / "contenders.py", contender.name, workload, self.result(contender)],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if ended.returncode:
            sys.exit(f"{contender.name} {workload}: {ended.stderr[-2000:]}")
        told = json.loads(ended.stdout)
        timed = [exchange for exchange in self.proxy.exchanges if exchange.began >= told["began_at"]]
        received = sum(exchange.received for exchange in timed) / 1e6
        return told["seconds"], len(timed), received, told["peak_mib"]

    def result(self, contender: type[Contender]) -> Path:
        return self.folder / f"{contender.__name__}.parquet"

    def difference(self, contender: type[Contender]) -> float:
        """The greatest relative difference from the reference; infinite where rows or nulls are others."""
        ours, theirs = (pl.read_parquet(self.result(one)) for one in (REFERENCE, contender))
        keys = [column for column in ("symbol", "timestamp") if column in ours.columns]
        ours, theirs = ours.sort(keys), theirs.sort(keys)
        if ours.height != theirs.height or (ours[keys[-1]].dt.epoch("s") != theirs[keys[-1]].dt.epoch("s")).any():
            return float("inf")
        worst = 0.0
        for column in set(ours.columns) - {"symbol", "timestamp"}:
            left, right = ours[column], theirs[column].fill_nan(None)
            if (left.is_null() != right.is_null()).any():
                return float("inf")
            worst = max(worst, float(((left - right).abs() / right.abs().clip(lower_bound=1e-3)).max() or 0.0))  # type: ignore[arg-type]
        return worst


def contest(arena: Arena, workload: str, contenders: list[str], times: int) -> list[Measured]:
    arena.run(REFERENCE, workload)
    entered = [one for one in CONTENDERS if hasattr(one, workload) and one.name in contenders]
    for contender in entered[1:]:
        arena.run(contender, workload)
        if (difference := arena.difference(contender)) > 1e-8:
            sys.exit(f"{workload}: {contender.name} differs by {difference:.1e}")
    measured = []
    for contender in entered:
        runs = [arena.run(contender, workload) for _ in range(times)]
        measured.append(
            Measured(contender.name, workload, *(statistics.median(side) for side in zip(*runs, strict=True)))
        )
    return measured


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workloads", default=",".join(WORKLOADS))
    parser.add_argument("--symbols", type=int, default=500)
    parser.add_argument("--years", type=int, default=20)
    parser.add_argument("--contenders", default="|".join(one.name for one in CONTENDERS), help="names, | between them")
    parser.add_argument("--runs", type=int, default=5, help="how often each is timed; the median counts")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    os.environ.update(KEYS)
    symbols = symbols_named(chosen.symbols)
    results: list[Measured] = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "s3"
        (root / BUCKET).mkdir(parents=True)
        with s3(root) as url, S3Proxy(url) as proxy:
            fill(url, symbols, chosen.years)
            proxy.before = lambda *_: time.sleep(ROUND_TRIP)
            arena = Arena(proxy, symbols, Path(folder))
            for workload in chosen.workloads.split(","):
                found = contest(arena, workload, chosen.contenders.split("|"), chosen.runs)
                fastest = min(one.seconds for one in found if one.contender != CONTENDERS[0].name)
                for one in found:
                    sys.stdout.write(
                        f"{one.workload}  {one.contender:20} {one.seconds:8.3f} s  x {one.seconds / fastest:6.2f}  "
                        f"{one.requests:5.0f} requests  {one.megabytes:7.2f} MB  {one.peak_mib:6.0f} MiB\n"
                    )
                results += found
    if chosen.json:
        about = {"symbols": chosen.symbols, "years": chosen.years, "runs": chosen.runs, "machine": platform.platform()}
        chosen.json.write_text(json.dumps(about | {"results": [asdict(one) for one in results]}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
