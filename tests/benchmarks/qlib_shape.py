"""W5: 14 features of 800 symbols, 2007 to 2020, from Parquet on the local disk, beside polars and pandas: `make bench`.

The paper's features: returns over 1, 5 and 20 bars; open, high and low over close; mean and deviation of the close over
5, 20 and 60 bars; volume over its mean of 20 bars; deviation of the volume over that mean. To the layer they are a
user's own indicator, asked of the adapter, with the bars on its disk; and, as plain SQL, of what the duckdb shell has:
the files under sql/, pointed at the same Parquet. Bars are adjusted, for no action. Each contender in a process of its
own, imports not timed, results equal to 1e-8 (pandas 1e-7) before they are timed, medians of five runs.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER.parent))

RUNS = 5
SYMBOLS, YEARS = 800, 14
WINDOWS = (5, 20, 60)

SOURCE = "query_table(source)"
FEATURES = f"""
    select
        symbol,
        timestamp,
        {", ".join(f"close / lag(close, {n}) over bars_in_order - 1 as return_{n}" for n in (1, 5, 20))},
        open / close as open_close,
        high / close as high_close,
        low / close as low_close,
        {", ".join(f"avg(close) over last_{n} as mean_{n}" for n in WINDOWS)},
        {", ".join(f"stddev_samp(close) over last_{n} as std_{n}" for n in WINDOWS)},
        volume / avg(volume) over last_20 as volume_ratio,
        stddev_samp(volume) over last_20 / avg(volume) over last_20 as volume_std
    from {{source}}
    window
        bars_in_order as (partition by symbol order by timestamp),
        {", ".join(f"last_{n} as (partition by symbol order by timestamp rows {n - 1} preceding)" for n in WINDOWS)}
"""


def in_the_adapter(_: str) -> Any:
    import pyarrow.dataset  # noqa: F401 (DuckDB imports it to read Arrow)

    import alchemiser_duck.panel.plan  # noqa: F401 (imports are not timed)
    from alchemiser_duck import CachedMarketDataAdapter

    adapter = CachedMarketDataAdapter()
    adapter.sql("select count(*) from bars")  # which fetches them

    def run() -> pa.Table:
        table = adapter.indicators_table({"features": {}}).to_arrow_table()
        return table.rename_columns([name.removeprefix("features_") for name in table.column_names])

    return run


def in_duckdb(folder: str) -> Any:
    import duckdb

    from alchemiser_duck.query.catalogue import files_named_in, sql_root

    con = duckdb.connect(":memory:")
    con.execute(f"set timezone = 'UTC'; set variable market_data = '{sql_root()}/empty_lake'")
    for file in files_named_in("bars"):
        con.execute(file.text)
    con.execute(f"set variable market_data = '{folder}'")
    return lambda: con.sql(FEATURES.format(source="bars")).to_arrow_table()


def in_polars(folder: str) -> Any:
    close, volume = pl.col("close"), pl.col("volume")
    features = {
        **{f"return_{n}": close.pct_change(n) for n in (1, 5, 20)},
        **{f"{side}_close": pl.col(side) / close for side in ("open", "high", "low")},
        **{f"mean_{n}": close.rolling_mean(n, min_samples=1) for n in WINDOWS},
        **{f"std_{n}": close.rolling_std(n, min_samples=2) for n in WINDOWS},
        "volume_ratio": volume / volume.rolling_mean(20, min_samples=1),
        "volume_std": volume.rolling_std(20, min_samples=2) / volume.rolling_mean(20, min_samples=1),
    }
    columns = ["symbol", "timestamp", *(column.over("symbol").alias(name) for name, column in features.items())]
    bars = f"{folder}/bars/timeframe=1Day/year=*/bars.parquet"
    return lambda: pl.scan_parquet(bars).sort("symbol", "timestamp").select(columns).collect().to_arrow()


def in_pandas(folder: str) -> Any:
    import pandas as pd

    def run() -> pa.Table:
        paths = sorted(Path(folder).glob("bars/timeframe=1Day/year=*/bars.parquet"))
        wanted = ["symbol", "timestamp", "open", "high", "low", "close", "volume"]
        bars = pd.concat([pd.read_parquet(path, columns=wanted, partitioning=None) for path in paths])
        bars = bars.sort_values(["symbol", "timestamp"], ignore_index=True)
        by_symbol = bars.groupby("symbol", sort=False)
        out = bars[["symbol", "timestamp"]].copy()
        for n in (1, 5, 20):
            out[f"return_{n}"] = by_symbol["close"].pct_change(n)
        for side in ("open", "high", "low"):
            out[f"{side}_close"] = bars[side] / bars["close"]
        for n in WINDOWS:
            window = by_symbol["close"].rolling(n, min_periods=1)
            out[f"mean_{n}"] = window.mean().to_numpy()
            out[f"std_{n}"] = window.std().to_numpy()
        volume = by_symbol["volume"].rolling(20, min_periods=1)
        mean = volume.mean().to_numpy()
        out["volume_ratio"] = bars["volume"] / mean
        out["volume_std"] = volume.std().to_numpy() / mean
        return pa.Table.from_pandas(out, preserve_index=False)

    return run


CONTENDERS = {
    "alchemiser-duck": in_the_adapter,
    "alchemiser-duck, SQL": in_duckdb,
    "polars": in_polars,
    "pandas": in_pandas,
}


def run(name: str, folder: str, target: str) -> None:
    compute = CONTENDERS[name](folder)
    began = time.perf_counter()
    table = compute()
    sys.stdout.write(str(time.perf_counter() - began))
    if target:
        pq.write_table(table, target)


def difference(ours: Path, theirs: Path) -> float:
    """The greatest relative difference; infinite where nulls are in other places."""
    left, right = (pl.read_parquet(path).sort("symbol", "timestamp") for path in (ours, theirs))
    worst = 0.0
    for column in left.columns[2:]:
        one, other = left[column].fill_nan(None), right[column].fill_nan(None)
        if (one.is_null() != other.is_null()).any():
            return float("inf")
        worst = max(worst, float(((one - other).abs() / other.abs().clip(lower_bound=1e-3)).max() or 0.0))  # type: ignore[arg-type]
    return worst


def fill(url: str, folder: Path) -> None:
    """The bars through the store, and the empty corporate actions of the layer for who reads files."""
    from workloads import BUCKET, PREFIX, bars_of, symbols_named

    from alchemiser_duck import MarketDataStore, Settings
    from alchemiser_duck.query.catalogue import sql_root

    settings = Settings.from_environment(MARKET_DATA_BUCKET=f"{BUCKET}/{PREFIX}", AWS_ENDPOINT_URL_S3=url)
    MarketDataStore(settings).write_bars(bars_of(symbols_named(SYMBOLS), YEARS))
    shutil.copytree(sql_root() / "empty_lake" / "corporate_actions", folder / "corporate_actions")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--run", nargs=3, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.run:
        run(*chosen.run)
        return 0
    from workloads import BUCKET, KEYS, PREFIX, s3

    os.environ.update(KEYS)
    with tempfile.TemporaryDirectory() as name:
        folder, stored = Path(name), Path(name) / "s3" / BUCKET / PREFIX
        stored.mkdir(parents=True)
        with s3(folder / "s3") as url:
            os.environ |= {"AWS_ENDPOINT_URL_S3": url, "MARKET_DATA_BUCKET": f"{BUCKET}/{PREFIX}"}
            fill(url, stored)
            (folder / "features.sql").write_text(
                f"create or replace macro features(source := 'bars') as table ({FEATURES.format(source=SOURCE)})"
            )
            os.environ["ALCHEMISER_SQL_DIR"] = str(folder)

            def timed(contender: str, target: str = "") -> float:
                command = [sys.executable, __file__, "--run", contender, str(stored), target]
                return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

            for contender in CONTENDERS:
                timed(contender, str(folder / contender))
                # pandas updates a rolling deviation from bar to bar, and it drifts: by 4e-8 here, polars by 3e-13
                most = 1e-7 if contender == "pandas" else 1e-8
                if (apart := difference(folder / "alchemiser-duck", folder / contender)) > most:
                    sys.stderr.write(f"w5: {contender} differs by {apart:.1e}\n")
                    return 1
            results = {one: statistics.median(timed(one) for _ in range(RUNS)) for one in CONTENDERS}
    for contender, seconds in results.items():
        sys.stdout.write(f"w5  {contender:20} {seconds:8.3f} s  x {seconds / results['polars']:6.2f} polars\n")
    if chosen.json:
        chosen.json.write_text(json.dumps({"symbols": SYMBOLS, "years": YEARS, "runs": RUNS, "seconds": results}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
