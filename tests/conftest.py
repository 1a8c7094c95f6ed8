"""Real servers on loopback for every test: moto's S3, the stand-in for Alpaca, a counting proxy between."""

import os
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import boto3
import duckdb
import pyarrow as pa
import pytest
from s3_proxy import S3Proxy

from alchemiser_duck import CachedMarketDataAdapter, DataRefreshService, Settings
from alchemiser_duck.query.connection import bundled_httpfs
from alchemiser_duck.query.session import DuckDBSession
from alchemiser_duck.sandbox import AlpacaServer, Sandbox, sandbox

ROOT = Path(__file__).parent.parent

# Wednesday 2025-07-16, 04:00 in New York: Tuesday's session is complete and final
MORNING = datetime(2025, 7, 16, 8, tzinfo=UTC)
TUESDAY = date(2025, 7, 15)


@pytest.fixture(scope="session", autouse=True)
def clean_environment() -> Iterator[None]:
    """No variable of the machine reaches a test."""
    kept = dict(os.environ)
    for name in list(os.environ):
        if name.startswith(("AWS_", "APCA_", "ALPACA_", "ALCHEMISER_", "MARKET_DATA_")) and name != "AWS_CA_BUNDLE":
            del os.environ[name]
    yield
    os.environ.clear()
    os.environ.update(kept)


@pytest.fixture(scope="session")
def shared_box(clean_environment: None) -> Iterator[Sandbox]:
    with sandbox(now=MORNING) as box:
        yield box


@pytest.fixture
def box(shared_box: Sandbox) -> Iterator[Sandbox]:
    """The sandbox, standing still at 04:00 New York; its Alpaca is put back as it was after the test."""
    alpaca = shared_box.alpaca
    before = {name: value for name, value in vars(alpaca).items() if not name.startswith("_")}
    bars = {symbol: dict(rows) for symbol, rows in alpaca.data.bars.items()}
    actions = {kind: list(rows) for kind, rows in alpaca.data.actions.items()}
    alpaca.requests_per_minute = 1_000_000
    alpaca.requests.clear()
    yield shared_box
    vars(alpaca).update(before | {"faults": [], "requests": []})
    alpaca.data.bars.clear()
    alpaca.data.bars.update(bars)
    alpaca.data.actions.clear()
    alpaca.data.actions.update(actions)


@pytest.fixture
def alpaca(box: Sandbox) -> AlpacaServer:
    return box.alpaca


def new_bucket(box: Sandbox) -> str:
    name = f"test-{uuid.uuid4().hex[:12]}"
    boto3.client("s3", endpoint_url=box.s3_url, region_name="us-east-1").create_bucket(Bucket=name)
    return name


@pytest.fixture
def make_settings(box: Sandbox) -> Callable[..., Settings]:
    """Settings for an empty lake of its own; overrides by the variables' names."""
    bucket = new_bucket(box)

    def make(**overrides: Any) -> Settings:
        defaults = {"MARKET_DATA_BUCKET": f"{bucket}/lake", "ALPACA_REQUESTS_PER_MINUTE": "100000"}
        return box.settings(**(defaults | overrides))

    return make


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    return make_settings()


@pytest.fixture
def proxy(box: Sandbox) -> Iterator[S3Proxy]:
    with S3Proxy(box.s3_url) as running:
        yield running


@pytest.fixture(scope="session")
def stored_settings(shared_box: Sandbox) -> Settings:
    """A lake with the whole history of the sandbox's symbols. Read it, do not write to it."""
    settings = shared_box.settings(MARKET_DATA_BUCKET=new_bucket(shared_box), ALPACA_REQUESTS_PER_MINUTE="100000")
    report = DataRefreshService(settings).overnight(start=shared_box.first_session, now=MORNING)
    assert report.status == "ok"
    return settings


@pytest.fixture(params=["copies", "httpfs"])
def both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a test of reading twice: through local copies, and straight over httpfs."""
    if request.param == "httpfs":
        if bundled_httpfs() is None:
            pytest.skip(f"no package brings httpfs for DuckDB {duckdb.__version__}: nothing can be read over it here")
        for door, keyword in ((CachedMarketDataAdapter, "local_copies"), (DuckDBSession, "is_local")):
            monkeypatch.setitem(door.__init__.__kwdefaults__, keyword, False)


@pytest.fixture
def adapter(stored_settings: Settings) -> CachedMarketDataAdapter:
    return CachedMarketDataAdapter(stored_settings, clock=lambda: MORNING)


def bar_rows(symbol: str, days: list[date], close: float = 100.0, *, is_final: bool = True) -> list[dict[str, Any]]:
    """Plain sound bars of one symbol, as rows of INCOMING_SCHEMA."""
    return [
        {
            "symbol": symbol,
            "timestamp": datetime(day.year, day.month, day.day, 5, tzinfo=UTC),
            "open": close,
            "high": close + 1,
            "low": close - 1,
            "close": close,
            "vwap": close,
            "volume": 1000,
            "trade_count": 10,
            "is_final": is_final,
        }
        for day in days
    ]


def bar_table(rows: list[dict[str, Any]]) -> pa.Table:
    from alchemiser_duck.ingest.merge import INCOMING_SCHEMA

    return pa.Table.from_pylist(rows, schema=INCOMING_SCHEMA)
