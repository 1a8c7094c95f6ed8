"""Market data in Parquet on S3, read through DuckDB SQL."""

from alchemiser_duck.bars import Bar, Quote
from alchemiser_duck.cached_market_data_adapter import CachedMarketDataAdapter
from alchemiser_duck.data_refresh_service import DataRefreshService
from alchemiser_duck.errors import AlchemiserDuckError, ExitCode
from alchemiser_duck.market_data_store import MarketDataStore
from alchemiser_duck.refresh_report import RefreshReport
from alchemiser_duck.settings import Settings

__all__ = [
    "AlchemiserDuckError",
    "Bar",
    "CachedMarketDataAdapter",
    "DataRefreshService",
    "ExitCode",
    "MarketDataStore",
    "Quote",
    "RefreshReport",
    "Settings",
]
