"""Who takes part in the workloads: this layer and what a user would otherwise write, each in its natural form.

A contender is a class with a method per workload that returns its result as an Arrow table; what it does not do it
leaves out. It runs in a process of its own, its imports made beforehand: `python contenders.py NAME WORKLOAD RESULT`.
"""

import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

NOW = datetime(2025, 7, 16, 8, tzinfo=UTC)
YEARS = (2024, 2025)
"""What 200 bars before NOW lie in."""

A_YEAR_AGO = date(2024, 7, 15)

BUCKET, PREFIX = "market", "lake"
WINDOWS = (20, 50, 200)


class Contender:
    """Reads the same bars; `url` is the S3 with its round trip."""

    name: str

    def __init__(self, url: str, symbols: list[str]) -> None:
        self.url = url
        self.symbols = symbols


class Layer(Contender):
    """This layer: adjusted bars, everything from the environment."""

    name = "alchemiser-duck"
    source = "bars"

    def __init__(self, url: str, symbols: list[str]) -> None:
        super().__init__(url, symbols)
        import alchemiser_duck.indicator_panel  # noqa: F401 (imports are not timed)
        from alchemiser_duck import CachedMarketDataAdapter

        self.adapter = CachedMarketDataAdapter(clock=lambda: NOW)

    def w1(self) -> pa.Table:
        panel: Any = {"sma": [{"n": n} for n in WINDOWS], "rsi": {"n": 14}}
        return self.adapter.indicators_table(panel, self.symbols, source=self.source, latest=True).to_arrow_table()

    def w2(self) -> pa.Table:
        panel: Any = {
            "sma": [{"n": n} for n in WINDOWS],
            "ema": {"n": 20},
            "rsi": {"n": 14},
            "bbands": {"n": 20},
            "cumulative_return": {"n": 60},
            "stdev_return": {"n": 20},
        }
        return self.adapter.indicators_table(panel, source=self.source).to_arrow_table()

    def w3(self) -> pa.Table:
        bars = self.adapter.get_bars(self.symbols[7], "1Y")
        return pa.table({"timestamp": [bar.timestamp for bar in bars], "close": [float(bar.close) for bar in bars]})


class LayerOnRawBars(Layer):
    """The same on bars as traded: what the peers compute, for the comparison of results."""

    name = "alchemiser-duck, raw"
    source = "bars_raw"

    def w3(self) -> pa.Table:
        rows = self.adapter.bars([self.symbols[7]], start=A_YEAR_AGO, adjustment="raw")
        return rows.select("timestamp, close").to_arrow_table()


class Polars(Contender):
    """scan_parquet over the year objects."""

    name = "polars"

    def __init__(self, url: str, symbols: list[str]) -> None:
        super().__init__(url, symbols)
        import indicators
        import polars

        self.pl, self.indicators = polars, indicators

    def scan(self) -> Any:
        options = {
            "aws_endpoint_url": self.url,
            "aws_access_key_id": os.environ["AWS_ACCESS_KEY_ID"],
            "aws_secret_access_key": os.environ["AWS_SECRET_ACCESS_KEY"],
            "aws_region": "us-east-1",
            "aws_allow_http": "true",
        }
        path = f"s3://{BUCKET}/{PREFIX}/bars/timeframe=1Day/year=*/bars.parquet"
        return self.pl.scan_parquet(path, storage_options=options, hive_partitioning=True)

    def w1(self) -> pa.Table:
        pl, ind = self.pl, self.indicators
        recent = self.scan().filter(pl.col("year") >= YEARS[0])
        frame = recent.select("symbol", "timestamp", "close").collect()
        columns = {f"sma_{n}": ind.over(ind.sma(n)) for n in WINDOWS} | {"rsi": ind.over(ind.rsi(14))}
        newest = frame.select("symbol", "timestamp", **columns).group_by("symbol").agg(pl.all().last())
        return newest.sort("symbol").to_arrow()

    def w2(self) -> pa.Table:
        return self.indicators.panel_in_polars(self.scan().select("symbol", "timestamp", "close").collect()).to_arrow()

    def w3(self) -> pa.Table:
        pl = self.pl
        chosen = self.scan().filter((pl.col("symbol") == self.symbols[7]) & (pl.col("date") >= A_YEAR_AGO))
        return chosen.select("timestamp", "close").collect().to_arrow()


class PyArrow(Contender):
    """pyarrow.dataset, and TA-Lib symbol by symbol."""

    name = "pyarrow + TA-Lib"

    def __init__(self, url: str, symbols: list[str]) -> None:
        super().__init__(url, symbols)
        import numpy
        import pyarrow.dataset
        import pyarrow.fs  # noqa: F401 (imports are not timed)
        import talib

        self.np, self.talib = numpy, talib

    def read(self, columns: list[str], condition: Any = None) -> pa.Table:
        import pyarrow.dataset as ds
        from pyarrow import fs

        host = self.url.removeprefix("http://")
        files = fs.S3FileSystem(endpoint_override=host, scheme="http", region="us-east-1")
        hive = ds.partitioning(pa.schema([("year", pa.int32())]), flavor="hive")
        bars = ds.dataset(
            f"{BUCKET}/{PREFIX}/bars/timeframe=1Day", filesystem=files, partitioning=hive, format="parquet"
        )
        return bars.to_table(columns=columns, filter=condition).sort_by([(name, "ascending") for name in columns[:2]])

    def w1(self) -> pa.Table:
        import pyarrow.dataset as ds

        bars = self.read(["symbol", "timestamp", "close"], ds.field("year") >= YEARS[0])
        symbols, starts = self.np.unique(bars["symbol"].to_numpy(zero_copy_only=False), return_index=True)
        closes, stamps = bars["close"].to_numpy(), bars["timestamp"]
        rows = []
        for symbol, first, after in zip(symbols, starts, [*starts[1:], len(closes)], strict=True):
            close = closes[first:after]
            values = {f"sma_{n}": self.talib.SMA(close, n)[-1] for n in WINDOWS} | {
                "rsi": self.talib.RSI(close, 14)[-1]
            }
            rows.append({"symbol": symbol, "timestamp": stamps[int(after) - 1].as_py(), **values})
        return pa.Table.from_pylist(rows)


class PandasPerSymbol(Contender):
    """An object per symbol, pandas: the system that this layer replaces."""

    name = "pandas, 16 threads"
    threads = 16

    def __init__(self, url: str, symbols: list[str]) -> None:
        super().__init__(url, symbols)
        import boto3
        import pandas
        import talib

        self.talib, self.pandas = talib, pandas
        self.client = boto3.client("s3", endpoint_url=url, region_name="us-east-1")

    def read(self, symbol: str) -> Any:
        import io

        body = self.client.get_object(Bucket=BUCKET, Key=f"per_symbol/{symbol}.parquet")["Body"].read()
        return self.pandas.read_parquet(io.BytesIO(body))

    def newest(self, symbol: str) -> dict[str, Any]:
        bars = self.read(symbol)
        close = bars["close"]
        values: dict[str, Any] = {f"sma_{n}": close.rolling(n).mean().iloc[-1] for n in WINDOWS}
        rsi = self.talib.RSI(close.to_numpy(), 14)[-1]
        return {"symbol": symbol, "timestamp": bars["timestamp"].iloc[-1].to_pydatetime(), **values, "rsi": rsi}

    def w1(self) -> pa.Table:
        with ThreadPoolExecutor(self.threads) as pool:
            return pa.Table.from_pylist(list(pool.map(self.newest, self.symbols)))

    def w3(self) -> pa.Table:
        bars = self.read(self.symbols[7])
        chosen = bars[bars["date"] >= A_YEAR_AGO]
        return pa.Table.from_pandas(chosen[["timestamp", "close"]], preserve_index=False)


class PandasSequential(PandasPerSymbol):
    """The same, one after the other."""

    name = "pandas, sequential"
    threads = 1


CONTENDERS: tuple[type[Contender], ...] = (Layer, Polars, PyArrow, PandasPerSymbol, PandasSequential)
REFERENCE = LayerOnRawBars
"""Its results must be the peers'."""


def main(name: str, workload: str, result: str) -> None:
    """Run one workload once and say how long it took."""
    named = {contender.name: contender for contender in (*CONTENDERS, REFERENCE)}
    symbols = json.loads(os.environ["BENCHMARK_SYMBOLS"])
    contender = named[name](os.environ["AWS_ENDPOINT_URL_S3"], symbols)
    began = time.perf_counter()
    table = getattr(contender, workload)()
    seconds = time.perf_counter() - began
    pq.write_table(table, Path(result))
    # not getrusage: that begins with what the parent had
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    sys.stdout.write(json.dumps({"seconds": seconds, "peak_mib": int(peak.split()[1]) / 1024}))


if __name__ == "__main__":
    main(*sys.argv[1:])
