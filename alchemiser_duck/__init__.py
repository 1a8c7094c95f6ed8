"""Market data in Parquet on S3, read through DuckDB SQL."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from alchemiser_duck.bars import Bar, Quote
from alchemiser_duck.cached_market_data_adapter import CachedMarketDataAdapter
from alchemiser_duck.data_freshness_validator import DataFreshnessValidator, FreshnessReport
from alchemiser_duck.errors import AlchemiserDuckError, ExitCode
from alchemiser_duck.query.connect import attach, connect
from alchemiser_duck.query.suspects import SuspectPricesWarning
from alchemiser_duck.settings import Settings

if TYPE_CHECKING:
    from alchemiser_duck.data_refresh_service import DataRefreshService
    from alchemiser_duck.fetch_request_service import FetchReport, FetchRequestService
    from alchemiser_duck.ingest.run_reports import RefreshReport
    from alchemiser_duck.market_data_store import MarketDataStore
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
    "SuspectPricesWarning",
    "SymbolExtractor",
    "attach",
    "connect",
]

# what a reader does not need is imported when it is first named: it takes as long as the rest
_LATER = {
    "DataRefreshService": "data_refresh_service",
    "Extraction": "symbol_extractor",
    "FetchReport": "fetch_request_service",
    "FetchRequestService": "fetch_request_service",
    "MarketDataStore": "market_data_store",
    "RefreshReport": "ingest.run_reports",
    "SymbolExtractor": "symbol_extractor",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
