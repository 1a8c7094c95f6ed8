"""Sound, forward-looking and harmful SQL files for linter and checker."""

from pathlib import Path

from alchemiser_duck.query.catalogue import SqlFile

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
    "an age between two times": of_bars("date_part('day', age(timestamp, timestamp - interval 2 days))"),
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
    "tablesample": macro("select symbol, timestamp, close as mine from bars tablesample 10 percent"),
    "tablesample in a nested query": macro(
        "with few as (from bars tablesample reservoir(5 rows)) select symbol, timestamp, close as mine from few"
    ),
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
    "current_timestamp": of_bars("date_diff('day', timestamp, current_timestamp)"),
    "localtimestamp": of_bars("localtimestamp"),
    "localtime": of_bars("localtime"),
    "current_localtimestamp()": of_bars("current_localtimestamp()"),
    "get_current_timestamp()": of_bars("get_current_timestamp()"),
    "today()": of_bars("today()"),
    "the age up to now": of_bars("age(timestamp)"),
    "ago": of_bars("close", "where timestamp > ago(interval 1 year)"),
    "a qualified clock": of_bars("main.now()"),
    "uuid": of_bars("uuid()"),
    "a variable": of_bars("getvariable('market_data')"),
    "the environment": of_bars("getenv('AWS_SECRET_ACCESS_KEY')"),
    "a comment on another": of_bars("close") + "comment on view bars is 'mine';",
}
