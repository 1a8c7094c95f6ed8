"""What the linter promises: nothing harmful loads, nothing that could see the future loads, and what is fine does."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pytest
from conftest import MORNING

from alchemiser_duck import CachedMarketDataAdapter, Settings
from alchemiser_duck.errors import BadParameter, SettingsError
from alchemiser_duck.query.catalogue import SqlFile, built_in_files
from alchemiser_duck.query.linter import in_loading_order, infer_look_back, lint

KNOWN = frozenset(file.name for file in built_in_files())
OVER = "over (partition by symbol order by timestamp"


def macro(body: str, name: str = "mine", parameters: str = "n := 5, source := 'bars'") -> str:
    return f"create or replace macro {name}({parameters}) as table (\n{body}\n);"


def of_bars(value: str, rest: str = "") -> str:
    return macro(f"select symbol, timestamp, {value} as mine from query_table(source) {rest}")


def file(text: str, name: str = "mine") -> SqlFile:
    return SqlFile(Path(f"{name}.sql"), text)


SOUND = {
    "a column": of_bars("close"),
    "trailing frame": of_bars(f"avg(close) {OVER} rows between n - 1 preceding and current row)"),
    "frame that ends earlier": of_bars(f"avg(high) {OVER} rows between n preceding and 1 preceding)"),
    "running frame": of_bars(f"sum(volume) {OVER})"),
    "lag": of_bars(f"close / lag(close, n) {OVER}) - 1"),
    "named window": of_bars(
        "avg(close) over w", "window w as (partition by symbol order by timestamp rows n preceding)"
    ),
    "cross-section": of_bars("rank() over (partition by timestamp order by close desc)"),
    "cross-section mean": macro(
        "with mean as (select timestamp, avg(close) as mean from query_table(source) group by timestamp) "
        "select symbol, timestamp, close / mean as mine from query_table(source) join mean using (timestamp)"
    ),
    "another indicator": macro(
        "select symbol, timestamp, a.sma - b.sma as mine from sma(20, source := source) as a "
        "join sma(50, source := source) as b using (symbol, timestamp)"
    ),
    "nested": macro(
        f"with r as (select symbol, timestamp, ln(close / lag(close) {OVER})) as r from query_table(source)) "
        f"select symbol, timestamp, stddev_pop(r) {OVER} rows between n - 1 preceding and current row) as mine from r"
    ),
    "a filter and a case": of_bars("case when close > open then 1 else 0 end", "where volume > 0"),
    "bounds by error()": of_bars("close", "where case when n > 0 then true else error('mine: n') end"),
    "a view": "create or replace view mine as select symbol, timestamp, rsi as mine from rsi_14;",
    "a comment": of_bars("close") + "\ncomment on macro table mine is 'The close.';",
    "qualify on a past window": of_bars("close", f"qualify row_number() {OVER}) > 3"),
}

SEES_THE_FUTURE = {
    "lead": of_bars(f"lead(close) {OVER})"),
    "lead deep inside": of_bars(f"round(abs(ln(coalesce(lead(close, 5) {OVER}), close))), 2)"),
    "negative lag": of_bars(f"lag(close, -1) {OVER})"),
    "negative lag by arithmetic": of_bars(f"lag(close, 0 - n) {OVER})"),
    "lag by a case": of_bars(f"lag(close, case when true then -1 else 1 end) {OVER})"),
    "following": of_bars(f"avg(close) {OVER} rows between 1 preceding and 1 following)"),
    "unbounded following": of_bars(f"last_value(close) {OVER} rows between current row and unbounded following)"),
    "following in a named window": of_bars(
        "max(close) over w",
        "window w as (partition by symbol order by timestamp rows between current row and n following)",
    ),
    "negative preceding": of_bars(f"avg(close) {OVER} rows between 5 preceding and -2 preceding)"),
    "range following": of_bars(f"max(close) {OVER} range between current row and interval 5 days following)"),
    "descending order": of_bars("lag(close) over (partition by symbol order by timestamp desc)"),
    "ordered by price": of_bars("row_number() over (partition by symbol order by close)"),
    "ordered by minus time": of_bars("lag(close) over (partition by symbol order by -epoch(timestamp))"),
    "no order": of_bars("max(close) over (partition by symbol)"),
    "no partition": of_bars("avg(close) over (order by timestamp)"),
    "empty window": of_bars("avg(close) over ()"),
    "aggregate joined back": macro(
        "with top as (select symbol, max(close) as top from query_table(source) group by symbol) "
        "select symbol, timestamp, close / top as mine from query_table(source) join top using (symbol)"
    ),
    "aggregate by week": macro(
        "select symbol, date_trunc('week', timestamp) as timestamp, max(close) as mine "
        "from query_table(source) group by all"
    ),
    "scalar subquery": of_bars("close / (select max(close) from bars)"),
    "correlated subquery": macro(
        "select symbol, timestamp, (select max(b.close) from bars as b "
        "where b.symbol = a.symbol and b.timestamp > a.timestamp) as mine from query_table(source) as a"
    ),
    "exists": of_bars("close", "where exists (select 1 from bars as later where later.close > 2)"),
    "in a query": of_bars("close", "where symbol in (select symbol from bars where close > 100)"),
    "self-join on the next day": macro(
        "select a.symbol, a.timestamp, b.close as mine from query_table(source) as a "
        "join query_table(source) as b on a.symbol = b.symbol and b.timestamp = a.timestamp + interval 1 day"
    ),
    "self-join on later days": macro(
        "select a.symbol, a.timestamp, b.close as mine from query_table(source) as a "
        "join query_table(source) as b on a.symbol = b.symbol and b.timestamp >= a.timestamp"
    ),
    "join on the symbol alone": macro(
        "select a.symbol, a.timestamp, b.close as mine from query_table(source) as a join bars as b using (symbol)"
    ),
    "comma join": macro("select a.symbol, a.timestamp, b.close as mine from query_table(source) as a, bars as b"),
    "positional join": macro(
        "select a.symbol, a.timestamp, b.close as mine from query_table(source) as a positional join bars as b"
    ),
    "asof join": macro(
        "select a.symbol, a.timestamp, b.close as mine from query_table(source) as a "
        "asof join bars as b on a.symbol = b.symbol and a.timestamp <= b.timestamp"
    ),
    "shifted timestamp": macro(
        "select symbol, timestamp - interval 5 days as timestamp, close as mine from query_table(source)"
    ),
    "renamed timestamp": macro(
        f"with next as (select symbol, close, lag(timestamp) {OVER}) as before from query_table(source)) "
        "select symbol, before as timestamp, close as mine from next"
    ),
    "latest row": of_bars("close", "order by timestamp desc limit 1"),
    "sample": of_bars("close", "using sample 10%"),
    "distinct on": macro("select distinct on (symbol) symbol, timestamp, close as mine from query_table(source)"),
    "recursive": macro(
        "with recursive r as (select symbol, timestamp, close from bars union all select * from r) "
        "select symbol, timestamp, close as mine from r"
    ),
    "renamed in an alias list": macro(
        "select symbol, timestamp, first_value(c) over (partition by symbol order by timestamp) as mine "
        "from (select symbol, date, close, volume from query_table(source)) as b(symbol, d, c, timestamp)"
    ),
    "renamed in a star": macro("select * replace (timestamp - interval 5 days as timestamp) from sma(20)"),
    "renamed by a union": macro(
        "select symbol, timestamp, close as mine from bars where false union all "
        f"select symbol, lag(timestamp) {OVER}), close from query_table(source)"
    ),
    "a column as offset": of_bars(f"lag(close, volume) {OVER})"),
    "a negative default": macro(
        f"select symbol, timestamp, lag(close, n) {OVER}) as mine from query_table(source)",
        parameters="n := -5, source := 'bars'",
    ),
    "a parameter that hides time": macro(
        f"select symbol, date, lag(close) {OVER}) as mine from query_table(source)",
        parameters="date := 1, source := 'bars'",
    ),
    "a pivot": macro("from (pivot (select symbol, timestamp, close from bars) on symbol in ('IBM') using max(close))"),
    "arg_max": macro(
        "select symbol, arg_max(timestamp, close) as timestamp, max(close) as mine from bars group by symbol"
    ),
}

HARMFUL = {
    "copy": "copy bars to '/tmp/x.csv';",
    "two statements": of_bars("close") + "\ndrop view bars;",
    "attach": "attach '/tmp/x.duckdb';",
    "set": "set threads = 1;",
    "install": "install spatial;",
    "insert": "insert into bars values (1);",
    "a table": "create or replace table mine as select 1;",
    "a secret": "create or replace secret mine (type s3);",
    "a scalar macro": "create or replace macro mine(a) as a + 1;",
    "not replacing": "create macro mine() as table (select 1);",
    "another name": macro("select 1", name="bars"),
    "nothing": "-- mine: nothing\n",
    "a syntax error": macro("select symbol, from where"),
    "a file": macro("select * from read_csv('/etc/passwd')"),
    "a parquet file": macro("select * from read_parquet('s3://other/x.parquet')"),
    "a file by name": macro("select * from '/etc/passwd'"),
    "a glob": macro("select * from glob('/*')"),
    "an unknown relation": macro("select * from barz"),
    "an unknown indicator": macro("select * from smaa(20)"),
    "system tables": macro("select * from duckdb_secrets()"),
    "information schema": macro("select * from information_schema.tables"),
    "query()": macro("select * from query('select 1')"),
    "query_table of a text": macro("select symbol, timestamp, close as mine from query_table('bars')"),
    "random": of_bars("random()"),
    "now": of_bars("epoch(now())"),
    "current_date": of_bars("current_date"),
    "a variable": of_bars("getvariable('market_data')"),
    "the environment": of_bars("getenv('AWS_SECRET_ACCESS_KEY')"),
    "a comment on another": of_bars("close") + "comment on view bars is 'mine';",
}


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_indicator_passes_and_loads(name: str, stored_settings: Settings, tmp_path: Path) -> None:
    assert lint([file(SOUND[name])], KNOWN) == []
    (tmp_path / "mine.sql").write_text(SOUND[name])
    adapter = CachedMarketDataAdapter(stored_settings.model_copy(update={"sql_dir": tmp_path}), clock=lambda: MORNING)
    call = "mine" if "view mine" in SOUND[name] else "mine()"
    assert adapter.sql(f"select count(mine) > 10 from {call} where symbol = 'FB'").fetchone() == (True,)


@pytest.mark.parametrize("name", SEES_THE_FUTURE)
def test_what_could_see_the_future_is_refused_with_its_line(name: str) -> None:
    findings = lint([file("-- mine: a header\n" + SEES_THE_FUTURE[name])], KNOWN)
    assert findings, "it got through"
    assert all(finding.line >= 3 for finding in findings)
    assert str(findings[0]).startswith("mine.sql:3: ")


@pytest.mark.parametrize("view", ["anomalies", "findings", "freshness", "gaps", "symbols"])
def test_views_that_know_the_future_are_no_input(view: str) -> None:
    body = (
        "select b.symbol, b.timestamp, 1 as mine from query_table(source) as b "
        f"left join {view} as v on b.symbol = v.symbol and b.timestamp = v.timestamp"
    )
    [finding] = lint([file("-- mine: a header\n" + macro(body))], KNOWN)
    assert f"{view} is allowed to look ahead" in str(finding)


@pytest.mark.parametrize("name", SEES_THE_FUTURE)
def test_research_labels_pass_with_a_reason(name: str) -> None:
    header = "-- mine: forward return\n-- allows look-ahead: a label for training\n"
    assert lint([file(header + SEES_THE_FUTURE[name])], KNOWN) == []
    assert lint([file("-- allows look-ahead:\n" + SEES_THE_FUTURE[name])], KNOWN), "a reason is needed"


def test_what_reads_a_research_label_is_refused_too() -> None:
    label = file("-- allows look-ahead: a label\n" + of_bars(f"lead(close) {OVER})"))
    for source in ("mine()", "sma(20, source := 'mine')"):
        reader = file(f"create or replace view other as select symbol, timestamp from {source};", "other")
        findings = lint([reader, label], KNOWN)
        assert [finding.path.name for finding in findings] == ["other.sql"]
        assert "allowed to look ahead" in findings[0].reason


@pytest.mark.parametrize("name", HARMFUL)
def test_what_could_do_harm_is_refused_even_as_a_research_label(name: str) -> None:
    for header in ("", "-- allows look-ahead: trust me\n"):
        assert lint([file(header + HARMFUL[name])], KNOWN), "it got through"


def test_look_back_is_seen_through_the_layers_functions() -> None:
    """ema_of and the like have windows inside: their headers say how far they reach."""
    numbered = (
        f"with numbered as (select symbol, timestamp, close, row_number() {OVER}) as bar from query_table(source)"
    )
    weighted = f"{numbered}), weighted as (select *, ema_weights(bar, n) as weights from numbered)"
    smoothed = macro(f"{weighted} select symbol, timestamp, ema_of(close, bar, weights, n + 1) as mine from weighted")
    assert infer_look_back(file(smoothed)) is None  # row_number() counts from the first bar on
    lagged = smoothed.replace(f"row_number() {OVER}) as bar", "1 as bar")
    assert infer_look_back(file(lagged)) == "EMA_LOOK_BACK((n + 1))"
    endless = lagged.replace("ema_of(close, bar, weights, n + 1)", "decayed_sum(close, weights, 0.5)")
    assert infer_look_back(file(endless)) is None


SEEN_TO_BE_SOUND = {"max_drawdown"}
"""looks to the end of a block, but uses it after that end only: test_indicators.py takes later bars away"""


def test_the_built_in_indicators_pass_their_own_rules() -> None:
    """But for sqlglot's view of two reading relations, which are the layer's own business."""
    own = [found for found in built_in_files() if found.is_indicator]
    findings = [finding for finding in lint(own, KNOWN) if finding.path.stem not in SEEN_TO_BE_SOUND]
    assert findings == []


def test_files_are_ordered_by_what_they_read_and_circles_are_named() -> None:
    def view(name: str, reads: str) -> SqlFile:
        return file(f"create or replace view {name} as select symbol, timestamp from {reads};", name)

    ordered = in_loading_order([view("c", "b"), view("a", "bars"), view("b", "a")])
    assert [found.name for found in ordered] == ["a", "b", "c"]
    with pytest.raises(SettingsError, match=r"in a circle: a -> b -> a"):
        in_loading_order([view("a", "b"), view("b", "a")])


def test_a_user_s_file_never_shadows_a_built_in_one(stored_settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "RSI.sql").write_text(macro("select 1", name="rsi"))
    adapter = CachedMarketDataAdapter(stored_settings.model_copy(update={"sql_dir": tmp_path}))
    with pytest.raises(SettingsError, match=r"has the name of the built-in .*rsi\.sql: rename it"):
        adapter.sql("from bars")


def test_a_refused_file_stops_every_read_and_says_where(stored_settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "mine.sql").write_text("-- mine: x\n" + SEES_THE_FUTURE["lead"])
    (tmp_path / "binary.sql").write_bytes(b"\xff\xfe\x00")
    adapter = CachedMarketDataAdapter(stored_settings.model_copy(update={"sql_dir": tmp_path}))
    with pytest.raises(SettingsError, match=r"binary\.sql cannot be read as text"):
        adapter.sql("from bars")
    (tmp_path / "binary.sql").unlink()
    with pytest.raises(SettingsError, match=r"mine\.sql:3: lead\(\) sees the future"):
        adapter.sql("from bars")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (SOUND["a column"], {5: 0}),
        (SOUND["trailing frame"], {5: 4, 20: 19}),
        (SOUND["frame that ends earlier"], {5: 5}),
        (SOUND["lag"], {5: 5, 60: 60}),
        (SOUND["named window"], {5: 5}),
        (SOUND["nested"], {5: 5, 20: 20}),
        (SOUND["cross-section"], {5: 0}),
        (SOUND["bounds by error()"], {5: 0}),
        (of_bars(f"lag(close, n) {OVER})", "where volume > 0"), {5: 5}),  # as many rows come out as go in
        (
            macro(
                f"with traded as (select symbol, timestamp, lag(close, n) {OVER}) as old from bars where volume > 0) "
                "select symbol, timestamp, old as mine from bars left join traded using (symbol, timestamp)"
            ),
            None,  # rows are missing below the window
        ),
        (SOUND["running frame"], None),
        (SOUND["another indicator"], None),
    ],
)
def test_look_back_is_inferred_from_frames_and_lags(text: str, expected: dict[int, int] | None) -> None:
    found = infer_look_back(file(text))
    if expected is None:
        assert found is None
        return
    for n, bars in expected.items():
        assert duckdb.sql(f"select {found} from (select {n} as n)").fetchone() == (bars,)


@pytest.mark.parametrize("name", ["trailing frame", "frame that ends earlier", "lag", "nested"])
def test_an_inferred_look_back_is_tight(name: str) -> None:
    """So many bars before a row give its value; with one bar less it changes."""
    con = duckdb.connect(":memory:")
    prices = np.random.default_rng(5).uniform(50, 60, 40).tolist()
    rows = [(datetime(2025, 1, 1, 5, tzinfo=UTC) + timedelta(days=i), price) for i, price in enumerate(prices)]
    con.execute("create table bars (symbol varchar, timestamp timestamptz, close double, high double)")
    con.executemany("insert into bars values ('X', $1, $2, $2 + (epoch($1) % 7))", rows)
    con.execute(SOUND[name])
    look_back = con.execute(f"select {infer_look_back(file(SOUND[name]))} from (select 5 as n)").fetchone()
    assert look_back
    last = "select mine from mine(5, source := '{}') order by timestamp desc limit 1"
    whole = con.execute(last.format("bars")).fetchone()
    for bars, same in ((look_back[0] + 1, True), (look_back[0], False)):
        con.execute(f"create or replace table tail as from bars order by timestamp desc limit {bars}")
        got = con.execute(last.format("tail")).fetchone()
        assert whole
        assert got
        assert (got[0] == pytest.approx(whole[0], rel=1e-12) if got[0] is not None else False) == same


def test_a_number_of_bars_is_never_negative(stored_settings: Settings, tmp_path: Path) -> None:
    """lag(close, n) with n = -5 would see the future."""
    (tmp_path / "mine.sql").write_text(SOUND["lag"])
    adapter = CachedMarketDataAdapter(stored_settings.model_copy(update={"sql_dir": tmp_path}), clock=lambda: MORNING)
    with pytest.raises(BadParameter, match="mine: n is a number of bars, got -5"):
        adapter.indicator("mine", ["IBM"], n=-5)


def test_a_user_s_indicator_reads_only_its_inferred_warm_up(stored_settings: Settings, tmp_path: Path) -> None:
    """The same values from any start, without a look-back in the header."""
    (tmp_path / "mine.sql").write_text(SOUND["nested"])
    adapter = CachedMarketDataAdapter(stored_settings.model_copy(update={"sql_dir": tmp_path}), clock=lambda: MORNING)
    whole = {row[1]: row[2] for row in adapter.indicator("mine", ["IBM"], n=20).fetchall()}
    part = adapter.indicator("mine", ["IBM"], start="2025-06-02", n=20).fetchall()
    assert len(part) == 30
    for _, timestamp, value in part:
        assert value == pytest.approx(whole[timestamp], rel=1e-10)
