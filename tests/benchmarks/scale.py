"""How it grows: 10 years of 500, 2,000, 8,000 and 11,000 symbols: `make bench-scale`, about ten minutes.

Backfill writes year by year as the overnight refresh does, its bars already fetched, into moto without a round trip (it
honours If-Match): seconds are those of the writes, peak memory is the writing process's. W1, W3 and W4 read what was
written from rclone, 20 ms away, each in a process of its own; medians of three runs.
"""

import argparse
import json
import logging
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import boto3
import pyarrow as pa
import pyarrow.compute as pc
import requests
from moto.server import ThreadedMotoServer

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent))

from contenders import BUCKET, PREFIX, Layer  # noqa: E402
from s3_proxy import S3Proxy  # noqa: E402
from workloads import KEYS, ROUND_TRIP, Arena, bars_of, s3, symbols_named  # noqa: E402

YEARS = 10
RUNS = 3


@dataclass(frozen=True)
class Grown:
    """What one size took."""

    symbols: int
    bars: int
    megabytes: float
    backfill_million_bars_per_second: float
    backfill_peak_mib: float
    w1_seconds: float
    w1_requests: float
    w1_peak_mib: float
    w3_seconds: float
    w3_requests: float
    w4_seconds: float
    w4_requests: float


@contextmanager
def moto() -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    requests.post(f"{url}/moto-api/reset", timeout=60)  # buckets outlive a server within a process
    try:
        yield url
    finally:
        server.stop()


def write(folder: str) -> None:
    """In a process of its own: store each year's bars, and say how long it took."""
    from alchemiser_duck import MarketDataStore

    store, seconds, bars = MarketDataStore(), 0.0, 0
    for path in sorted(Path(folder).glob("*.arrow")):
        with pa.memory_map(str(path)) as source:
            table = pa.ipc.open_file(source).read_all()
            began = time.perf_counter()
            store.write_bars(table)
            seconds += time.perf_counter() - began
            bars += table.num_rows
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    sys.stdout.write(json.dumps({"seconds": seconds, "bars": bars, "peak_mib": int(peak.split()[1]) / 1024}))


def backfill(url: str, symbols: list[str], folder: Path) -> dict[str, float]:
    bars = bars_of(symbols, YEARS)
    years = pc.year(bars["timestamp"])
    for year in pc.unique(years).to_pylist():
        table = bars.filter(pc.equal(years, year))
        with pa.ipc.new_file(str(folder / f"{year}.arrow"), table.schema) as file:
            file.write_table(table)
    environment = os.environ | {"AWS_ENDPOINT_URL_S3": url, "MARKET_DATA_BUCKET": f"{BUCKET}/{PREFIX}"}
    command = [sys.executable, __file__, "--write", str(folder)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    told: dict[str, float] = json.loads(ended.stdout)
    return told


def grown(count: int) -> Grown:
    symbols = symbols_named(count)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "bars").mkdir()
        with moto() as url:
            client = boto3.client("s3", endpoint_url=url, region_name="us-east-1")
            client.create_bucket(Bucket=BUCKET)
            written = backfill(url, symbols, folder / "bars")
            size = 0
            for one in client.list_objects_v2(Bucket=BUCKET)["Contents"]:
                target = folder / "s3" / BUCKET / one["Key"]
                target.parent.mkdir(parents=True)
                client.download_file(BUCKET, one["Key"], str(target))
                size += one["Size"]
        with s3(folder / "s3") as url, S3Proxy(url) as proxy:
            proxy.before = lambda *_: time.sleep(ROUND_TRIP)
            arena = Arena(proxy, symbols, folder)
            took = {
                workload: [
                    statistics.median(side)
                    for side in zip(*(arena.run(Layer, workload) for _ in range(RUNS)), strict=True)
                ]
                for workload in ("w1", "w3", "w4")
            }
    return Grown(
        count,
        int(written["bars"]),
        size / 1e6,
        written["bars"] / written["seconds"] / 1e6,
        written["peak_mib"],
        took["w1"][0],
        took["w1"][1],
        took["w1"][3],
        *took["w3"][:2],
        *took["w4"][:2],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--symbols", default="500,2000,8000,11000")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--write", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.write:
        return write(chosen.write)
    os.environ.update(KEYS)
    results = []
    for count in map(int, chosen.symbols.split(",")):
        one = grown(count)
        results.append(asdict(one))
        sys.stdout.write("  ".join(f"{key} {value:.4g}" for key, value in asdict(one).items()) + "\n")
        sys.stdout.flush()
    if chosen.json:
        about = {"years": YEARS, "runs": RUNS, "machine": platform.platform()}
        chosen.json.write_text(json.dumps(about | {"results": results}, indent=2))
    return None


if __name__ == "__main__":
    main()
