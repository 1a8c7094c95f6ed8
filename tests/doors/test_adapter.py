"""What the read side promises: exact bars, its own error for each mistake, and nothing made up."""

import threading
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import duckdb
import pytest
from conftest import MORNING, TUESDAY, bar_rows, bar_table

from alchemiser_duck import Bar, CachedMarketDataAdapter, MarketDataStore, Settings
from alchemiser_duck import exchange_calendar as calendar
from alchemiser_duck.errors import (
    BadParameter,
    BadPeriod,
    EmptyLake,
    NotReadOnly,
    QueryFailed,
    StorageUnavailable,
    UnknownIndicator,
    UnknownSymbol,
    UnsupportedTimeframe,
)
from alchemiser_duck.query.catalogue import built_in_files, files_named_in, sql_root
from alchemiser_duck.sandbox import AlpacaServer, Sandbox

pytestmark = pytest.mark.usefixtures("both_ways")


def at(settings: Settings, moment: datetime = MORNING, **options: Any) -> CachedMarketDataAdapter:
    return CachedMarketDataAdapter(settings, clock=lambda: moment, **options)


def test_get_bars_gives_a_year_of_exact_completed_bars(adapter: CachedMarketDataAdapter, alpaca: AlpacaServer) -> None:
    """Of a symbol without corporate actions, to the last digit that Alpaca sends."""
    bars = adapter.get_bars("GOOG", period="1Y")
    days = calendar.sessions(date(2024, 7, 16), TUESDAY)
    assert len(bars) == len(days) == 250
    for bar, day in zip(bars, days, strict=True):
        row = alpaca.data.bars["GOOG"][day]
        assert bar == Bar(
            symbol="GOOG",
            timestamp=datetime.fromisoformat(row["t"]),
            open=Decimal(str(row["o"])),
            high=Decimal(str(row["h"])),
            low=Decimal(str(row["l"])),
            close=Decimal(str(row["c"])),
            volume=row["v"],
            vwap=Decimal(str(row["vw"])),
            trade_count=row["n"],
        )
        assert bar.timestamp.tzinfo is UTC


@pytest.mark.parametrize(
    ("period", "first"),
    [
        ("1D", TUESDAY),
        ("1W", date(2025, 7, 9)),
        ("3M", date(2025, 4, 16)),
        ("2Y", date(2023, 7, 16)),
        ("9999Y", date(1990, 1, 1)),
        ("MAX", date(1990, 1, 1)),
    ],
)
def test_periods_are_calendar_spans_back_from_the_last_session(
    adapter: CachedMarketDataAdapter, shared_box: Sandbox, period: str, first: date
) -> None:
    days = calendar.sessions(max(first, shared_box.first_session), TUESDAY)
    assert [calendar.new_york_date(bar.timestamp) for bar in adapter.get_bars("IBM", period)] == days


def test_a_period_ends_with_the_last_complete_session(stored_settings: Settings) -> None:
    """At noon today's session is not over; a minute before the delayed close neither; then it is."""
    for moment, last in (
        (datetime(2025, 7, 15, 16, tzinfo=UTC), date(2025, 7, 14)),
        (datetime(2025, 7, 15, 20, 14, tzinfo=UTC), date(2025, 7, 14)),
        (datetime(2025, 7, 15, 20, 15, tzinfo=UTC), date(2025, 7, 15)),
    ):
        assert calendar.new_york_date(at(stored_settings, moment).get_bars("AAPL", "1M")[-1].timestamp) == last


def test_a_leap_day_is_a_year_before_a_day(stored_settings: Settings) -> None:
    bars = at(stored_settings).as_of("2024-02-29").get_bars("AAPL", "1Y")
    assert calendar.new_york_date(bars[0].timestamp) == date(2023, 3, 1)


def test_a_stored_symbol_without_a_bar_in_the_period_gives_an_empty_list(settings: Settings) -> None:
    MarketDataStore(settings).write_bars(bar_table(bar_rows("HALT", [date(2025, 7, 1)])))
    assert at(settings).get_bars("HALT", "1D") == []
    assert len(at(settings).get_bars("HALT", "1M")) == 1


@pytest.mark.parametrize("period", ["1Z", "", "Y", "0Y", "-1Y", "1.5Y", "1 fortnight", "10000Y", None])
def test_a_bad_period_is_named(adapter: CachedMarketDataAdapter, period: Any) -> None:
    with pytest.raises(BadPeriod, match="for example: 1Y"):
        adapter.get_bars("AAPL", period)


def test_each_mistake_has_an_error_of_its_own(adapter: CachedMarketDataAdapter) -> None:
    with pytest.raises(
        UnknownSymbol, match=r"'APPL' .* did you mean AAPL\?; to fetch: alchemiser-duck refresh --symbols APPL"
    ):
        adapter.get_bars("APPL")
    assert adapter.get_bars("aapl", "1m") == adapter.get_bars("AAPL", "1M")
    with pytest.raises(UnsupportedTimeframe, match="'1Min' is not stored; the lake holds 1Day"):
        adapter.get_bars("AAPL", timeframe="1Min")
    with pytest.raises(UnknownSymbol, match="'NOPE'"):
        adapter.bars(["AAPL", "NOPE"])
    with pytest.raises(UnknownSymbol, match="'NOPE'"):
        adapter.latest("sma", ["AAPL", "NOPE"])
    with pytest.raises(UnknownIndicator, match=r"'smaa'; did you mean sma\?"):
        adapter.latest("smaa", ["AAPL"])
    for n in (0, -1):
        with pytest.raises(BadParameter, match=f"sma: n must be a whole number from 1 to 100000, got {n}"):
            adapter.latest("sma", ["AAPL"], n=n)
        with pytest.raises(BadParameter, match="rsi: n must be"):
            adapter.indicator("rsi", ["AAPL"], start="2025-01-01", n=n)
    with pytest.raises(BadParameter, match="sma has no parameter window; it takes n := 20, source := 'bars'"):
        adapter.indicator("sma", ["AAPL"], window=3)
    with pytest.raises(BadParameter, match="no relation 'bar'; did you mean bars"):
        adapter.indicator("sma", ["AAPL"], source="bar")
    with pytest.raises(BadParameter, match="start 'soon' is not a date"):
        adapter.bars(["AAPL"], start="soon")
    with pytest.raises(BadParameter, match="start 2025-02-01 is after end 2025-01-01"):
        adapter.bars(["AAPL"], "2025-02-01", "2025-01-01")
    assert len(adapter.bars("AAPL, ibm", start="2025-07-15")) == 2
    with pytest.raises(BadParameter, match="none of all, split, raw"):
        adapter.bars(["AAPL"], adjustment="dividends")  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["14); drop view bars; --", "1", float("nan"), [14]])
def test_a_parameter_of_the_wrong_kind_is_refused_and_never_pasted(
    adapter: CachedMarketDataAdapter, value: Any
) -> None:
    with pytest.raises((BadParameter, QueryFailed)):
        adapter.latest("sma", ["AAPL"], n=value)
    assert len(adapter.latest("sma", ["AAPL"], n=20)) == 1


def test_a_symbol_is_never_pasted(adapter: CachedMarketDataAdapter) -> None:
    with pytest.raises(BadParameter, match="is not one"):
        adapter.get_bars("x' or symbol = 'AAPL")
    with pytest.raises(BadParameter, match="is not one"):
        adapter.bars(["x') or (symbol = 'AAPL"])


def test_an_empty_lake_says_how_to_fill_it(settings: Settings) -> None:
    adapter = at(settings)
    for ask in (
        lambda: adapter.get_bars("AAPL"),
        lambda: adapter.bars(["AAPL"]),
        lambda: adapter.latest("rsi", ["AAPL"]),
        lambda: adapter.sql("from bars"),
        lambda: adapter.warm_cache(["AAPL"]),
    ):
        with pytest.raises(EmptyLake, match=f"{settings.lake_url} yet; to fill it: alchemiser-duck refresh"):
            ask()


def test_an_unreachable_s3_is_its_own_error(make_settings: Callable[..., Settings]) -> None:
    with pytest.raises(StorageUnavailable, match=r"127\.0\.0\.1:1"):
        at(make_settings(AWS_ENDPOINT_URL_S3="http://127.0.0.1:1")).get_bars("AAPL")


def test_the_fallback_is_asked_only_where_the_lake_has_no_answer(
    stored_settings: Settings, make_settings: Callable[..., Settings]
) -> None:
    asked = []

    class Other:
        def get_bars(self, symbol: str, period: str, timeframe: str) -> list[Bar]:
            asked.append((symbol, period, timeframe))
            return []

    assert at(stored_settings, fallback=Other()).get_bars("NOPE", "3M") == []
    assert at(make_settings(), fallback=Other()).get_bars("AAPL") == []
    assert at(make_settings(AWS_ENDPOINT_URL_S3="http://127.0.0.1:1"), fallback=Other()).get_bars("IBM") == []
    assert asked == [("NOPE", "3M", "1Day"), ("AAPL", "1Y", "1Day"), ("IBM", "1Y", "1Day")]
    assert len(at(stored_settings, fallback=Other()).get_bars("AAPL")) == 250
    with pytest.raises(BadPeriod):
        at(stored_settings, fallback=Other()).get_bars("AAPL", "1Z")
    assert len(asked) == 3


def test_bars_is_a_relation_with_every_way_out(adapter: CachedMarketDataAdapter) -> None:
    relation = adapter.bars(["IBM", "AAPL"], start="2025-07-10", end=date(2025, 7, 14))
    assert relation.columns == [
        *("symbol", "date", "timestamp", "open", "high", "low", "close", "vwap", "volume", "trade_count", "is_final")
    ]
    frame = relation.df()
    assert frame["symbol"].tolist() == ["AAPL"] * 3 + ["IBM"] * 3
    assert str(frame["timestamp"].dt.tz) in ("UTC", "Etc/UTC")
    assert relation.to_arrow_table().num_rows == len(relation.fetchall()) == 6
    assert adapter.bars(["AAPL"], end="2012-01-01").fetchall() == []
    assert adapter.bars(["AAPL"], adjustment="raw").columns == relation.columns
    assert adapter.bars([]).fetchall() == []


def test_a_relation_is_a_snapshot(settings: Settings) -> None:
    """What was handed out stays what it was, whatever is written or asked afterwards."""
    store = MarketDataStore(settings)
    store.write_bars(bar_table(bar_rows("AAPL", [TUESDAY], 10.0)))
    adapter = at(settings)
    held = adapter.bars(["AAPL"])
    store.write_bars(bar_table(bar_rows("AAPL", [TUESDAY], 11.0)))
    adapter.as_of("2020-01-01").sql("select 1")
    assert held.aggregate("min(close)").fetchall()[0] == (10.0,)
    assert held.aggregate("min(close)").fetchall()[0] == (10.0,)
    assert adapter.bars(["AAPL"]).aggregate("min(close)").fetchall()[0] == (11.0,)


def test_threads_share_an_adapter(adapter: CachedMarketDataAdapter) -> None:
    problems: list[Exception] = []

    def read(number: int) -> None:
        symbol = ("AAPL", "IBM", "GOOG", "FB")[number % 4]
        try:
            for _ in range(4):
                assert {bar.symbol for bar in adapter.get_bars(symbol, "1M")} == {symbol}
                assert [row[0] for row in adapter.latest("rsi", [symbol]).fetchall()] == [symbol]
        except Exception as problem:  # noqa: BLE001 (told to the main thread)
            problems.append(problem)

    threads = [threading.Thread(target=read, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []


def test_latest_gives_the_newest_row_of_each_symbol(settings: Settings) -> None:
    """Of one that stopped trading years ago too, where it is named."""
    gone = calendar.sessions(date(2019, 1, 2), date(2020, 6, 30))
    alive = calendar.sessions(date(2024, 1, 2), TUESDAY)
    MarketDataStore(settings).write_bars(bar_table(bar_rows("GONE", gone, 5.0) + bar_rows("LIVE", alive, 7.0)))
    newest = [("GONE", date(2020, 6, 30), 5.0), ("LIVE", TUESDAY, 7.0)]

    def latest(adapter: CachedMarketDataAdapter, symbols: list[str] | None) -> list[tuple[str, date, float]]:
        rows = adapter.latest("sma", symbols, n=3).fetchall()
        return [(symbol, calendar.new_york_date(stamp), value) for symbol, stamp, value in rows]

    assert latest(at(settings), ["GONE", "LIVE"]) == newest
    assert latest(at(settings), None) == newest[1:]
    assert latest(at(settings).as_of("2021-06-30"), None) == newest[:1]
    assert latest(at(settings).as_of("2018-06-30"), None) == []


def test_latest_finds_the_newest_rows_of_a_lake_that_ended_long_ago(settings: Settings) -> None:
    days = calendar.sessions(date(2017, 1, 3), date(2019, 5, 31))
    MarketDataStore(settings).write_bars(bar_table(bar_rows("OLD", days, 5.0)))
    for symbols in (["OLD"], None):
        ((symbol, stamp, value),) = at(settings).latest("sma", symbols, n=200).fetchall()
        assert (symbol, calendar.new_york_date(stamp), value) == ("OLD", days[-1], 5.0)


def test_sql_runs_over_views_and_indicators(adapter: CachedMarketDataAdapter) -> None:
    rows = adapter.sql(
        "select symbol, rsi from rsi(14) join bars using (symbol, timestamp) where date = $day order by rsi",
        {"day": TUESDAY},
    ).fetchall()
    assert sorted(symbol for symbol, _ in rows) == ["AAPL", "FB", "GOOG", "IBM"]
    assert [rsi for _, rsi in rows] == sorted(rsi for _, rsi in rows)
    assert adapter.sql("from bars limit 1;").columns[0] == "symbol"
    assert adapter.sql("describe bars").fetchall()
    assert adapter.sql("select 1 -- a comment").fetchall() == [(1,)]
    assert adapter.sql("with a as (values (1), (2)) from a").fetchall() == [(1,), (2,)]


@pytest.mark.parametrize(
    "attempt",
    [
        "copy bars to '/tmp/stolen.csv'",
        "create table t as select 1",
        "insert into bars values (1)",
        "attach '/tmp/x.duckdb'",
        "install httpfs",
        "load icu",
        "set threads = 1",
        "set variable as_of = '2099-01-01'",
        "pragma enable_profiling",
        "drop view bars",
        "create or replace view bars as select 1",
        "create secret (type s3)",
        "select 1; select 2",
        "",
        "  -- nothing",
        "from enable_logging('HTTP')",
        "from \"enable_logging\"('HTTP')",
        "select * from system.main.Enable_Logging('HTTP')",
        "from query('from enable_' || 'logging(''HTTP'')')",
        "from query /* */ ('select 1')",
        "from duckdb_logs()",
        "from duckdb_logs_parsed('HTTP')",
        "select write_log('x')",
        "from checkpoint()",
        "from json_execute_serialized_sql(json_serialize_sql('select 1'))",
    ],
)
def test_sql_takes_nothing_but_one_select(adapter: CachedMarketDataAdapter, attempt: str) -> None:
    with pytest.raises(NotReadOnly, match=r"single SELECT-like statement|out of reach here"):
        adapter.sql(attempt)
    assert adapter.sql("select count(*) > 0 from bars").fetchall()[0] == (True,)


@pytest.mark.parametrize(
    "attempt",
    [
        "select * from read_csv('/etc/passwd')",
        "select * from read_text('/etc/passwd')",
        "select * from '/etc/passwd'",
        "select * from glob('/etc/*')",
        "select * from read_parquet('s3://other-bucket/x.parquet')",
        "select * from read_csv('http://127.0.0.1:1/x.csv')",
        "select getenv('AWS_SECRET_ACCESS_KEY')",
        "select * from nothing_here",
        "select ] from bars",
        "select 1) ; copy bars to '/tmp/x.csv' ; --",
    ],
)
def test_sql_reaches_nothing_but_the_lake(adapter: CachedMarketDataAdapter, attempt: str) -> None:
    with pytest.raises((QueryFailed, NotReadOnly)):
        adapter.sql(attempt)


@pytest.mark.parametrize("function", ["duckdb_secrets", "duckdb_settings", "duckdb_variables", "which_secret"])
def test_sql_shows_no_secret(adapter: CachedMarketDataAdapter, function: str) -> None:
    with pytest.raises(NotReadOnly, match="out of reach here"):
        adapter.sql(f"from {function}()")


def test_quotes_are_live(adapter: CachedMarketDataAdapter, alpaca: AlpacaServer) -> None:
    quote = adapter.get_latest_quote("IBM")
    assert adapter.get_mid_price("IBM") == (quote.bid + quote.ask) / 2
    assert alpaca.requests[-1] == ("/v2/stocks/quotes/latest", {"symbols": "IBM", "feed": "iex"})
    with pytest.raises(BadParameter, match="from its future"):
        adapter.as_of("2020-01-02").get_latest_quote("IBM")


def test_a_user_s_own_indicator_is_found(tmp_path: Any, stored_settings: Settings) -> None:
    """A file in ALCHEMISER_SQL_DIR, in whatever order of dependencies, works like a built-in one."""
    (tmp_path / "a_ratio.sql").write_text(
        "create or replace macro a_ratio(n := 5) as table ("
        "select symbol, timestamp, 100 * spread / n as a_ratio from z_spread)"
    )
    (tmp_path / "z_spread.sql").write_text(
        "create or replace view z_spread as select symbol, timestamp, high - low as spread from bars"
    )
    adapter = at(stored_settings.model_copy(update={"sql_dir": tmp_path}))
    rows = adapter.indicator("a_ratio", ["AAPL"], start="2025-07-15", n=10).fetchall()
    expected = adapter.sql(
        "select 10 * (high - low) from bars where symbol = 'AAPL' and date = '2025-07-15'"
    ).fetchall()[0]
    assert expected
    assert rows[0][2] == pytest.approx(expected[0])


def test_indicators_lists_what_there_is(tmp_path: Any, make_settings: Callable[..., Settings]) -> None:
    """Also over an empty lake: nothing is asked of S3."""
    (tmp_path / "ahead.sql").write_text(
        "-- ahead: the next close\n-- allows look-ahead: a label\n"
        "create or replace macro ahead(source := 'bars') as table (select symbol, timestamp, "
        "lead(close) over (partition by symbol order by timestamp) as ahead from query_table(source))"
    )
    (tmp_path / "mean_of.sql").write_text(
        "-- mean_of: a mean\n"
        "create or replace macro mean_of(n := 7, source := 'bars') as table (select symbol, timestamp, "
        "avg(close) over (partition by symbol order by timestamp rows n preceding) as mean_of from query_table(source))"
    )
    rows = at(make_settings(ALCHEMISER_SQL_DIR=str(tmp_path))).indicators().to_arrow_table().to_pylist()
    by_name = {row["name"]: row for row in rows}
    assert list(by_name) == sorted(by_name)
    assert {"ahead", "mean_of", "rsi", "sma"} < set(by_name)
    assert by_name["ahead"]["look_ahead"] == "a label"
    assert by_name["mean_of"]["look_back"] == "n"
    assert by_name["sma"] == {
        "name": "sma",
        "parameters": "n := 20, source := 'bars'",
        "columns": ["symbol", "timestamp", "sma"],
        "description": "simple moving average of the close over the last n bars.",
        "look_back": "n - 1",
        "look_ahead": None,
        "file": by_name["sma"]["file"],
    }


def test_days_of_delay_do_not_move_the_horizon_of_as_of(stored_settings: Settings) -> None:
    past = at(stored_settings, MORNING + timedelta(days=3000)).as_of("2024-07-05")
    assert calendar.new_york_date(past.get_bars("AAPL", "1W")[-1].timestamp) == date(2024, 7, 5)


def test_every_file_comes_with_all_that_it_needs() -> None:
    """The layer is loaded as far as a query names it: each file alone must bring what it reads."""
    for file in built_in_files():
        with duckdb.connect() as con:
            con.execute(f"set variable market_data = '{sql_root()}/empty_lake'")
            for needed in files_named_in(f"select * from {file.name}"):
                con.execute(needed.text)
            if not file.is_function:
                call = file.name if file.is_relation else f"{file.name}()"
                assert con.execute(f"describe select * from {call}").fetchall(), file.name


def test_names_are_written_out_and_mistyped_ones_are_told(stored_settings: Settings) -> None:
    """The text tells which objects a query reads, so it cannot put a name together."""

    def fresh() -> CachedMarketDataAdapter:
        return CachedMarketDataAdapter(stored_settings, clock=lambda: MORNING)

    assert len(fresh().sql("from sma(3, source := 'bars_weekly') limit 5")) == 5
    for source in ("'bars_' || 'weekly'", "lower('BARS')", "(select 'bars')", "'s3://lake/x.parquet'", "$1"):
        with pytest.raises(NotReadOnly, match=r"an argument of sma\(\) is out of reach here"):
            fresh().sql(f"from sma(3, source := {source})")
    with pytest.raises(QueryFailed, match="'rsl'; did you mean rsi"):
        fresh().sql("from rsl(3)")
    with pytest.raises(QueryFailed, match="'bar'; did you mean bars"):
        fresh().sql("from bar")
    assert {"bars", "freshness", "rsi_14"} <= {name for (name,) in fresh().sql("show tables").fetchall()}
    functions = fresh().sql("select count(distinct function_name) from duckdb_functions() where not internal")
    assert functions.fetchall()[0] == (sum(not file.is_relation for file in built_in_files()),)


@pytest.mark.parametrize("symbol", ["A\0B", 5, None])
def test_what_cannot_be_a_symbol_is_refused(adapter: CachedMarketDataAdapter, symbol: Any) -> None:
    with pytest.raises(BadParameter, match=r"symbols are tickers|one symbol is asked for"):
        adapter.get_bars(symbol)
    with pytest.raises(BadParameter, match=r"symbols are tickers|one symbol is asked for"):
        adapter.latest("sma", ["AAPL", symbol])


@pytest.mark.parametrize("name", ["corporate_actions", "refresh_runs", "sessions"])
def test_a_prefix_named_like_a_part_of_the_lake_is_only_a_prefix(
    make_settings: Callable[..., Settings], name: str
) -> None:
    """An empty lake under it is an empty lake, not one that lacks that part; with bars it is read."""
    bucket = make_settings().bucket
    settings = make_settings(MARKET_DATA_BUCKET=f"{bucket}/{name}")
    adapter = CachedMarketDataAdapter(settings, clock=lambda: MORNING)
    with pytest.raises(EmptyLake):
        adapter.bars(["AAPL"])
    MarketDataStore(settings).write_bars(bar_table(bar_rows("AAPL", [TUESDAY])))
    assert len(adapter.bars(["AAPL"])) == 1


def test_as_of_a_day_without_a_session_is_as_of_the_session_before(adapter: CachedMarketDataAdapter) -> None:
    for day in ("2025-07-11", "2025-07-12", "2025-07-13"):  # Friday to Sunday
        (bar,) = adapter.as_of(day).get_bars("AAPL", "1D")
        assert bar.timestamp.date() == date(2025, 7, 11)
