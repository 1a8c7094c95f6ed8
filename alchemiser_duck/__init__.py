"""Market data in Parquet on S3, read through DuckDB SQL."""

from alchemiser_duck.bars import Bar, Quote
from alchemiser_duck.cached_market_data_adapter import CachedMarketDataAdapter
from alchemiser_duck.data_freshness_validator import DataFreshnessValidator, FreshnessReport
from alchemiser_duck.data_refresh_service import DataRefreshService
from alchemiser_duck.errors import AlchemiserDuckError, ExitCode
from alchemiser_duck.fetch_request_service import FetchReport, FetchRequestService
from alchemiser_duck.market_data_store import MarketDataStore
from alchemiser_duck.refresh_report import RefreshReport
from alchemiser_duck.settings import Settings
from alchemiser_duck.symbol_extractor import Extraction, SymbolExtractor

__all__ = [
    "AlchemiserDuckError",
    "Bar",
    "CachedMarketDataAdapter",
    "DataFreshnessValidator",
    "DataRefreshService",
    "ExitCode",
    "Extraction",
    "FetchReport",
    "FetchRequestService",
    "FreshnessReport",
    "MarketDataStore",
    "Quote",
    "RefreshReport",
    "Settings",
    "SymbolExtractor",
]
