"""The demo: everything once, on loopback. Fetch real bars, store them on S3, read them back through DuckDB."""

from alchemiser_duck.cached_market_data_adapter import CachedMarketDataAdapter
from alchemiser_duck.cli import console, output
from alchemiser_duck.data_refresh_service import DataRefreshService
from alchemiser_duck.sandbox import sandbox

_LATEST = """
select
    symbol,
    date,
    close,
    round(sma_20, 4) as sma_20,
    round(sma_50, 4) as sma_50,
    round(sma_200, 4) as sma_200,
    round(rsi_14, 4) as rsi_14
from indicators
qualify row_number() over (partition by symbol order by timestamp desc) = 1
order by symbol
"""

_AD_HOC = """
select symbol, year(date) as year, max(close) / min(close) - 1 as range, sum(volume) as volume
from bars
group by all
order by range desc
limit 5
"""


def run() -> None:
    """Show the main job end to end, on stdout."""
    with sandbox() as box:
        console.info(f"sandbox: S3 at {box.s3_url}, Alpaca's stand-in at {box.alpaca.url}")
        console.info(f"sandbox: {box.notice}")
        settings = box.settings()

        output.text("-- overnight refresh: Alpaca -> hive-partitioned Parquet on S3")
        with console.refresh_progress() as progress:
            report = DataRefreshService(settings).overnight(start=box.first_session, progress=progress)
        output.text(
            f"{report.changes.added:,} bars of {len(report.outcomes)} symbols in {len(report.partitions_written)} "
            f"partitions, {report.alpaca_requests} Alpaca requests, {report.s3_requests} S3 requests, "
            f"{report.seconds:.1f} s"
        )

        adapter = CachedMarketDataAdapter(settings)
        output.text('\n-- Python: adapter.get_bars("AAPL", period="1Y")')
        bars = adapter.get_bars("AAPL", period="1Y")
        output.text(f"{len(bars)} bars")
        for label, bar in (("first", bars[0]), ("last ", bars[-1])):
            output.text(f"{label} {bar.timestamp:%Y-%m-%d %H:%MZ}  close {bar.close}  volume {bar.volume:,}")

        output.text("\n-- SQL: the latest indicators of every symbol, computed by DuckDB")
        output.write(adapter.sql(_LATEST))

        output.text("\n-- ad-hoc SQL:" + _AD_HOC.rstrip())
        output.write(adapter.sql(_AD_HOC))
