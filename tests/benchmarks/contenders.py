"""Who takes part in the workloads: this layer and what a user would otherwise write, each in its natural form.

A contender is a class with a method per workload that returns its result as an Arrow table; what it does not do it
leaves out. It runs in a process of its own, its imports made beforehand, and so is what `before` does:
`python contenders.py NAME WORKLOAD RESULT`.
"""

import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, ClassVar

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
    before: ClassVar[dict[str, str]] = {
        "w1_again": "w1",
        "w2_loaded": "load",
        "w3_again": "w3",
        "w3_other": "w3",
        "w3_warmed": "load",
        "w4": "refresh_once",
    }
    """what is done beforehand, and not timed"""

    def __init__(self, url: str, symbols: list[str]) -> None:
        self.url = url
        self.symbols = symbols
        self.symbol, self.other = symbols[7], symbols[9]

    def load(self) -> None:
        """Have the bars in this process, in whatever form it computes from."""

    def make_bars(self) -> None:
        """The bars of the session after the last one stored, never the same twice."""
        stamp = datetime(2025, 7, 16, 4, tzinfo=UTC)
        closes = [100 + time.time() % 1000 / 100 + number / 1000 for number in range(len(self.symbols))]
        prices = dict.fromkeys(("open", "high", "low", "close", "vwap"), closes)
        counts = {"volume": [1000] * len(closes), "trade_count": [10] * len(closes)}
        self.bars = pa.table({"symbol": self.symbols, "timestamp": [stamp] * len(closes), **prices, **counts})

    def table(self, result: Any) -> pa.Table:
        """What a workload gave, as Arrow."""
        return result

    def refresh_once(self) -> None:
        """The process has refreshed before: clients are open, the calendar is there."""
        self.make_bars()
        self.w4()  # type: ignore[attr-defined]
        Contender.make_bars(self)

    def w1_again(self) -> pa.Table:
        return self.w1()  # type: ignore[attr-defined]

    def w3_again(self) -> pa.Table:
        return self.w3()  # type: ignore[attr-defined]

    def w3_other(self) -> pa.Table:
        self.symbol = self.other
        return self.w3()  # type: ignore[attr-defined]


class Layer(Contender):
    """This layer: adjusted bars, everything from the environment."""

    name = "alchemiser-duck"
    source = "bars"

    def __init__(self, url: str, symbols: list[str]) -> None:
        super().__init__(url, symbols)
        import pyarrow.dataset  # noqa: F401 (DuckDB imports it to read Arrow)

        import alchemiser_duck.panel.plan  # noqa: F401 (imports are not timed)
        from alchemiser_duck import CachedMarketDataAdapter

        self.adapter = CachedMarketDataAdapter(clock=lambda: NOW)

    def w1(self) -> pa.Table:
        panel: Any = {"sma": [{"n": n} for n in WINDOWS], "rsi": {"n": 14}}
        return self.adapter.indicators_table(panel, self.symbols, source=self.source, latest=True).to_arrow_table()

    def load(self) -> None:
        self.adapter.warm_cache([self.symbol, self.other], "2Y")
        self.adapter.sql("select count(*) from bars")

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

    def w3(self) -> Any:
        return self.adapter.get_bars(self.symbol, "1Y")

    def table(self, result: Any) -> pa.Table:
        if isinstance(result, pa.Table):
            return result
        return pa.table({"timestamp": [bar.timestamp for bar in result], "close": [float(b.close) for b in result]})

    def w2_loaded(self) -> pa.Table:
        return self.w2()

    def w3_warmed(self) -> Any:
        return self.w3()

    def make_bars(self) -> None:
        from alchemiser_duck import DataRefreshService, Settings

        super().make_bars()
        self.refresh = DataRefreshService(Settings.from_environment(), source=Answer(self))  # type: ignore[arg-type]

    def w4(self) -> pa.Table:
        report = self.refresh.post_close(self.symbols, now=datetime(2025, 7, 16, 20, 20, tzinfo=UTC))
        assert report.status == "ok", report
        return self.bars.select(["symbol", "timestamp"])


class Answer:
    """Alpaca's answer, already here."""

    requests = 0

    def __init__(self, contender: Contender) -> None:
        self.contender = contender

    def daily_bars(self, symbols: list[str], *_: object) -> Any:
        from alchemiser_duck.ingest.source import FETCHED_SCHEMA, FetchedBatch

        yield FetchedBatch(tuple(symbols), self.contender.bars.select(FETCHED_SCHEMA.names).cast(FETCHED_SCHEMA))

    def corporate_actions(self, *_: object, **__: object) -> Any:
        from alchemiser_duck.ingest.source import FetchedActions

        return FetchedActions({}, {})


class LayerOnRawBars(Layer):
    """The same on bars as traded: what the peers compute, for the comparison of results."""

    name = "alchemiser-duck, raw"
    source = "bars_raw"

    def w3(self) -> pa.Table:
        rows = self.adapter.bars([self.symbol], start=A_YEAR_AGO, adjustment="raw")
        return rows.select("timestamp, close").to_arrow_table()

    def w3_warmed(self) -> pa.Table:
        return self.w3()


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
        chosen = self.scan().filter((pl.col("symbol") == self.symbol) & (pl.col("date") >= A_YEAR_AGO))
        return chosen.select("timestamp", "close").collect().to_arrow()

    def load(self) -> None:
        self.frame = self.scan().select("symbol", "timestamp", "date", "close").collect()

    def w2_loaded(self) -> pa.Table:
        return self.indicators.panel_in_polars(self.frame.select("symbol", "timestamp", "close")).to_arrow()

    def w3_warmed(self) -> pa.Table:
        pl = self.pl
        chosen = self.frame.filter((pl.col("symbol") == self.symbol) & (pl.col("date") >= A_YEAR_AGO))
        return chosen.select("timestamp", "close").to_arrow()

    def make_bars(self) -> None:
        import boto3

        super().make_bars()
        self.client = boto3.client("s3", endpoint_url=self.url, region_name="us-east-1")

    def w4(self) -> pa.Table:
        import io

        pl, key = self.pl, f"{PREFIX}/bars/timeframe=1Day/year=2025/bars.parquet"
        stored = pl.read_parquet(io.BytesIO(self.client.get_object(Bucket=BUCKET, Key=key)["Body"].read()))
        day = pl.from_arrow(self.bars).with_columns(date=pl.lit(date(2025, 7, 16)), is_final=False)
        merged = pl.concat([stored, day.select(stored.columns).cast(stored.schema)])
        body = io.BytesIO()
        merged.unique(["symbol", "date"], keep="last").sort("symbol", "timestamp").write_parquet(body)
        self.client.put_object(Bucket=BUCKET, Key="merged_by_polars.parquet", Body=body.getvalue())
        return self.bars.select(["symbol", "timestamp"])


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

    def w3(self) -> pa.Table:
        import pyarrow.dataset as ds

        one = (ds.field("symbol") == self.symbol) & (ds.field("date") >= A_YEAR_AGO) & (ds.field("year") >= YEARS[0])
        return self.read(["symbol", "timestamp", "close"], one).drop_columns(["symbol"])

    def panel(self, bars: pa.Table) -> pa.Table:
        np, talib = self.np, self.talib
        _, starts = np.unique(bars["symbol"].to_numpy(zero_copy_only=False), return_index=True)
        closes = bars["close"].to_numpy()
        columns: dict[str, list[Any]] = {}
        for first, after in zip(starts, [*starts[1:], len(closes)], strict=True):
            close = closes[first:after]
            upper, middle, lower = talib.BBANDS(close, 20)
            changes = np.concatenate([[np.nan], close[1:] / close[:-1] - 1])
            values = {
                **{f"sma_{n}": talib.SMA(close, n) for n in WINDOWS},
                "ema": talib.EMA(close, 20),
                "rsi": talib.RSI(close, 14),
                "bbands_upper": upper,
                "bbands_middle": middle,
                "bbands_lower": lower,
                "cumulative_return": talib.ROC(close, 60),
                "stdev_return": np.concatenate([[np.nan], 100 * talib.STDDEV(changes[1:], 20) * 252**0.5]),
            }
            for name, column in values.items():
                columns.setdefault(name, []).append(column)
        joined = {name: np.concatenate(parts) for name, parts in columns.items()}
        return pa.table({"symbol": bars["symbol"], "timestamp": bars["timestamp"], **joined})

    def w2(self) -> pa.Table:
        return self.panel(self.read(["symbol", "timestamp", "close"]))

    def load(self) -> None:
        self.loaded = self.read(["symbol", "timestamp", "close"])

    def w2_loaded(self) -> pa.Table:
        return self.panel(self.loaded)

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
        bars = self.read(self.symbol)
        chosen = bars[bars["date"] >= A_YEAR_AGO]
        return pa.Table.from_pandas(chosen[["timestamp", "close"]], preserve_index=False)


class PandasSequential(PandasPerSymbol):
    """The same, one after the other."""

    name = "pandas, sequential"
    threads = 1


CONTENDERS: tuple[type[Contender], ...] = (Layer, Polars, PyArrow, PandasPerSymbol, PandasSequential)
REFERENCE = LayerOnRawBars
"""Its results must be the peers'."""


def main(name: str, workload: str, target: str) -> None:
    """Run one workload once and say how long it took."""
    named = {contender.name: contender for contender in (*CONTENDERS, REFERENCE)}
    symbols = json.loads(os.environ["BENCHMARK_SYMBOLS"])
    contender = named[name](os.environ["AWS_ENDPOINT_URL_S3"], symbols)
    if workload in contender.before:
        getattr(contender, contender.before[workload])()
    began_at, began = time.time(), time.perf_counter()
    result = getattr(contender, workload)()
    seconds = time.perf_counter() - began
    pq.write_table(contender.table(result), Path(target))
    # not getrusage: that begins with what the parent had
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    sys.stdout.write(json.dumps({"began_at": began_at, "seconds": seconds, "peak_mib": int(peak.split()[1]) / 1024}))


if __name__ == "__main__":
    main(*sys.argv[1:])
