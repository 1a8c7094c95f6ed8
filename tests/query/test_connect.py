"""The layer in a DuckDB of the caller's own: the same numbers, on cursors too; nothing of the caller's is replaced."""

import duckdb
import pandas as pd
import pytest
from conftest import MORNING
from s3_proxy import S3Proxy

from alchemiser_duck import CachedMarketDataAdapter, MarketDataStore, Settings, attach, connect
from alchemiser_duck.errors import QueryFailed


@pytest.fixture
def con(stored_settings: Settings) -> duckdb.DuckDBPyConnection:
    return connect(stored_settings)


def test_it_gives_what_the_adapter_gives(con: duckdb.DuckDBPyConnection, adapter: CachedMarketDataAdapter) -> None:
    query = "select * from rsi(14) where symbol = 'AAPL' and timestamp >= '2025-06-01' order by timestamp"
    assert con.execute(query).fetchall() == adapter.sql(query).fetchall()
    assert con.execute("from freshness").fetchall()


def test_cursors_and_other_connections_see_the_layer_each_through_its_own_lens(
    con: duckdb.DuckDBPyConnection,
) -> None:
    cursor = con.cursor()
    cursor.execute("set variable as_of = '2020-03-02'")
    assert cursor.execute("select max(date)::varchar from bars").fetchall()[0] == ("2020-03-02",)
    assert con.execute("select max(date)::varchar from bars").fetchall()[0] == ("2025-07-15",)


def test_it_joins_what_the_caller_has(con: duckdb.DuckDBPyConnection) -> None:
    portfolio = pd.DataFrame({"symbol": ["AAPL", "IBM"], "shares": [2.0, 1.0]})
    con.register("portfolio", portfolio)
    query = "select sum(shares * close) from bars_raw join portfolio using (symbol) where date = '2025-07-15'"
    closes = dict(con.execute("select symbol, close from bars_raw where date = '2025-07-15'").fetchall())
    assert con.execute(query).fetchall()[0] == (pytest.approx(2 * closes["AAPL"] + closes["IBM"]),)


def test_definitions_ask_nothing_of_s3(
    stored_settings: Settings, proxy: S3Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    through_proxy = stored_settings.model_copy(update={"endpoint_url": proxy.url})
    con = connect(through_proxy)
    assert proxy.exchanges == []
    con.execute("select count(*) from bars where symbol = 'IBM'")
    assert proxy.exchanges != []


def test_it_sees_the_next_refresh(settings: Settings) -> None:
    from conftest import TUESDAY, bar_rows, bar_table

    store = MarketDataStore(settings)
    store.write_bars(bar_table(bar_rows("AAPL", [TUESDAY], 10.0)))
    store.actions.merge([], TUESDAY, everything=True)
    con = connect(settings)
    query = "select close from bars"
    assert con.execute(query).fetchall() == [(10.0,)]
    store.write_bars(bar_table(bar_rows("AAPL", [TUESDAY], 11.0)))
    assert con.execute(query).fetchall() == [(11.0,)]


def test_attaching_leaves_the_callers_connection_as_it_is(stored_settings: Settings) -> None:
    con = duckdb.connect(config={"threads": 3})
    con.execute("set timezone = 'America/New_York'; create table positions as select 'IBM' as symbol")
    assert attach(con, stored_settings) is con
    attach(con, stored_settings)  # newer credentials
    shown = con.execute("select current_setting('timezone'), current_setting('threads')").fetchall()[0]
    assert shown == ("America/New_York", 3)
    assert con.execute("select count(*) > 100 from positions join bars using (symbol)").fetchall()[0] == (True,)


@pytest.mark.parametrize("mine", ["table", "view"])
def test_what_the_caller_has_under_a_name_of_the_layer_is_not_replaced(stored_settings: Settings, mine: str) -> None:
    con = duckdb.connect()
    con.execute(f"create {mine} bars as select 1 as mine")
    with pytest.raises(QueryFailed, match="a table or view named bars, as the layer does: rename it"):
        attach(con, stored_settings)
    assert con.execute("select mine from bars").fetchall()[0] == (1,)


def test_the_secret_opens_this_lake_alone(con: duckdb.DuckDBPyConnection, stored_settings: Settings) -> None:
    scope, shown = con.execute("select scope, secret_string from duckdb_secrets()").fetchall()[0] or ("", "")
    assert scope == [f"{stored_settings.lake_url}/"]
    assert "secret=redacted" in shown


def test_the_adapter_reads_the_same_straight_over_httpfs(stored_settings: Settings) -> None:
    copies, ranges = (
        CachedMarketDataAdapter(stored_settings, local_copies=local, clock=lambda: MORNING) for local in (True, False)
    )
    for ask in (
        lambda adapter: adapter.get_bars("AAPL"),
        lambda adapter: adapter.latest("rsi").fetchall(),
        lambda adapter: adapter.indicators_table({"sma": {}, "obv": {}}, start="2025-06-02").fetchall(),
    ):
        assert ask(copies) == ask(ranges)
    assert list(ranges._session.mirror.folder.rglob("*.parquet")) == []
