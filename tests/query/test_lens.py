"""The lens and what it costs: since and as_of reach every relation, and S3 is asked for nothing that they hide."""

import re
from collections.abc import Callable
from datetime import date
from typing import Any

import pytest
from conftest import MORNING, bar_rows, bar_table
from s3_proxy import S3Proxy

from alchemiser_duck import CachedMarketDataAdapter, MarketDataStore, Settings
from alchemiser_duck import exchange_calendar as calendar
from alchemiser_duck.query.session import DuckDBSession
from alchemiser_duck.query.statement import Lens

pytestmark = pytest.mark.usefixtures("both_ways")


@pytest.fixture(scope="module")
def twenty_years(shared_box: Any) -> Settings:
    """Twenty symbols, twenty year partitions."""
    from conftest import new_bucket

    settings: Settings = shared_box.settings(MARKET_DATA_BUCKET=new_bucket(shared_box))
    days = calendar.sessions(date(2006, 1, 1), date(2025, 7, 15))
    rows = [row for i in range(20) for row in bar_rows(f"S{chr(65 + i)}", days, 10.0 + i)]
    store = MarketDataStore(settings)
    store.write_bars(bar_table(rows))
    store.actions.merge([], date(2025, 7, 15), everything=True)
    return settings


@pytest.fixture
def counted(twenty_years: Settings, proxy: S3Proxy, make_settings: Callable[..., Settings]) -> Settings:
    return make_settings(MARKET_DATA_BUCKET=twenty_years.market_data_bucket, AWS_ENDPOINT_URL_S3=proxy.url)


def years_read(proxy: S3Proxy) -> set[int]:
    return {
        int(exchange.path.split("year%3D")[-1][:4])
        for exchange in proxy.exchanges
        if exchange.method == "GET" and "bars.parquet" in exchange.path
    }


def test_nothing_is_asked_of_s3_before_the_first_query(counted: Settings, proxy: S3Proxy) -> None:
    """All of sql/ loads offline."""
    CachedMarketDataAdapter(counted).as_of("2020-01-02")
    DuckDBSession(counted).connection()
    assert proxy.exchanges == []


def test_since_reads_the_years_it_needs_below_a_window(counted: Settings, proxy: S3Proxy) -> None:
    """sma(50) over since = mid 2024: two of twenty objects are read."""
    rows = DuckDBSession(counted).snapshot("select * from sma(50)", lens=Lens(since=date(2024, 6, 3))).fetchall()
    assert len(rows) == 20 * len(calendar.sessions(date(2024, 6, 3), date(2025, 7, 15)))
    assert years_read(proxy) == {2024, 2025}


def test_as_of_hides_what_came_later_from_every_relation(twenty_years: Settings) -> None:
    adapter = CachedMarketDataAdapter(twenty_years, clock=lambda: MORNING).as_of("2020-03-02")
    for relation in ("bars", "bars_raw", "indicators", "sma_20", "sma_50", "sma_200", "rsi_14", "sma(20)", "rsi(14)"):
        row = adapter.sql(f"select max(timestamp)::date from {relation}").fetchall()[0]
        assert row == (date(2020, 3, 2),), relation
    assert adapter.sql("select max(last_date) from symbols").fetchall()[0] == (date(2020, 3, 2),)
    assert adapter.bars(["SA"]).aggregate("max(date)").fetchall()[0] == (date(2020, 3, 2),)
    assert adapter.get_bars("SA", "1M")[-1].timestamp.date() == date(2020, 3, 2)
    assert adapter.latest("sma", ["SA"]).aggregate("max(timestamp)::date").fetchall()[0] == (date(2020, 3, 2),)


def test_as_of_prunes_the_years_after_it(counted: Settings, proxy: S3Proxy) -> None:
    CachedMarketDataAdapter(counted).as_of("2007-03-01").sql("select count(*), max(close) from bars").fetchall()
    assert years_read(proxy) == {2006, 2007}


def test_since_and_as_of_meet_at_their_own_days(twenty_years: Settings) -> None:
    """Both ends included, on either side of a new year."""
    session = DuckDBSession(twenty_years)
    for first, last in (
        (date(2019, 12, 31), date(2020, 1, 2)),
        (date(2020, 1, 2), date(2020, 1, 2)),
        (date(2020, 1, 4), date(2020, 1, 5)),
    ):
        rows = session.snapshot("select distinct date from bars order by 1", lens=Lens(first, last)).fetchall()
        assert [day for (day,) in rows] == calendar.sessions(first, last)


def test_one_adapter_s_horizon_never_moves_another_s(twenty_years: Settings) -> None:
    adapter = CachedMarketDataAdapter(twenty_years, clock=lambda: MORNING)
    past = adapter.as_of("2010-06-01")
    held = past.bars(["SA"])
    assert adapter.bars(["SA"]).aggregate("max(date)").fetchall()[0] == (date(2025, 7, 15),)
    assert held.aggregate("max(date)").fetchall()[0] == (date(2010, 6, 1),)
    assert past.as_of("2012-06-01").bars(["SA"]).aggregate("max(date)").fetchall()[0] == (date(2012, 6, 1),)


def test_one_symbol_reads_one_symbol_s_row_groups(
    counted: Settings, proxy: S3Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through a window: with small row groups, one symbol costs a small part of the bytes of all."""
    monkeypatch.setattr("alchemiser_duck.ingest.partitions.ROW_GROUP_ROWS", 300)
    settings = counted.model_copy(update={"market_data_bucket": counted.bucket + "/small-groups"})
    days = calendar.sessions(date(2025, 1, 1), date(2025, 7, 15))
    rows = [row for i in range(60) for row in bar_rows(f"S{chr(65 + i // 26)}{chr(65 + i % 26)}", days, 10.0 + i)]
    store = MarketDataStore(settings)
    store.write_bars(bar_table(rows))
    store.actions.merge([], date(2025, 7, 15), everything=True)
    plan = (
        DuckDBSession(settings)
        .connection(names="sma bars", over_s3=True)
        .execute("explain analyze select * from sma(20) where symbol = 'SBB'")
        .fetchall()[0][1]
    )
    # bars and corporate actions, below the window and the adjustment
    assert plan.count("symbol='SBB'") == plan.count("applies_to='SBB'") == 1
    scanned = [line for line in plan.splitlines() if " rows" in line]
    assert max(int(count.replace(",", "")) for line in scanned for count in re.findall(r"([\d,]+) rows", line)) <= 300


def test_an_unchanged_lake_is_asked_for_its_listings_alone(counted: Settings, proxy: S3Proxy) -> None:
    adapter = CachedMarketDataAdapter(counted, local_copies=True, clock=lambda: MORNING)
    first = adapter.get_bars("SC", "1Y")
    cold = len(proxy.exchanges)
    proxy.clear()
    assert adapter.get_bars("SC", "1Y") == first
    asked = sorted((exchange.method, "list-type=2" in exchange.path) for exchange in proxy.exchanges)
    assert asked == [("GET", True), ("HEAD", False)]
    assert cold == 2 + 3 + 1  # what there is; two years and actions; whether there is a year after the last


def test_a_rewritten_partition_is_seen_at_once(settings: Settings) -> None:
    store = MarketDataStore(settings)
    adapter = CachedMarketDataAdapter(settings, clock=lambda: MORNING)
    for price in (10.0, 11.0, 12.0):
        store.write_bars(bar_table(bar_rows("AAPL", [date(2025, 7, 15)], price)))
        assert [float(bar.close) for bar in adapter.get_bars("AAPL", "1D")] == [price]


def test_a_warm_cache_answers_without_a_request(counted: Settings, proxy: S3Proxy) -> None:
    adapter = CachedMarketDataAdapter(counted, clock=lambda: MORNING)
    cold = {symbol: adapter.get_bars(symbol, "2Y") for symbol in ("SA", "SB")}
    assert adapter.warm_cache(["SA", "SB"], "3Y") == 2 * len(calendar.sessions(date(2022, 7, 16), date(2025, 7, 15)))
    proxy.clear()
    assert {symbol: adapter.get_bars(symbol, "2Y") for symbol in ("SA", "SB")} == cold
    assert proxy.exchanges == []
    adapter.get_bars("SA", "5Y")  # reaches further back than what is warm
    adapter.get_bars("SC", "1Y")  # was not asked for
    assert len(proxy.exchanges) > 0


def test_a_warm_cache_ends_with_its_session(counted: Settings, proxy: S3Proxy) -> None:
    moments = [MORNING]
    adapter = CachedMarketDataAdapter(counted, clock=lambda: moments[-1])
    adapter.warm_cache(["SA"])
    moments.append(MORNING.replace(day=17))
    proxy.clear()
    adapter.get_bars("SA", "1M")
    assert len(proxy.exchanges) > 0
