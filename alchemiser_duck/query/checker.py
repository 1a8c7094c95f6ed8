"""Checking indicators before they are trusted: the linter's rules, a dry run on sample bars, and a look for look-ahead.

The last is an experiment: the value at a day, computed from all bars, must be exactly that computed from the bars up to
that day. It finds what no rule thought of.
"""

from collections.abc import Sequence
from pathlib import Path

import duckdb

from alchemiser_duck.errors import BadParameter, SettingsError
from alchemiser_duck.query.catalogue import SqlFile, built_in_files, sql_root, user_files
from alchemiser_duck.query.linter import Finding, in_loading_order, lint
from alchemiser_duck.query.literals import identifier, literal

CUTS = ("2023-09-15", "2024-02-29", "2024-07-05", "2024-12-31")

# three symbols of different lengths, one of them a single bar: prices wander upwards, volumes vary, all from a hash
_SAMPLE_BARS = """
create table sample_bars as

with

days as (

    select
        cast(day as date) as date,
        row_number() over (order by day) as number

    from range(date '2023-06-01', date '2025-01-31', interval 1 day) as days(day)

    where isodow(day) < 6

),

steps as (

    select
        symbol,
        date,
        number,
        hash(symbol || number) % 2001 / 1000.0 - 1 as step

    from days

    join (values ('LONG', 1), ('SHORT', 300), ('ONCE', 400)) as symbols(symbol, first_number)
        on number >= first_number and (symbol <> 'ONCE' or number = first_number)

),

closes as (

    select
        symbol,
        date,
        number,
        50 * exp(0.002 * number + 0.02 * sum(step) over (partition by symbol order by number)) as close

    from steps

)

select
    symbol,
    date,
    cast(date + interval 5 hour as timestamp) at time zone 'UTC' as timestamp,
    close * 0.999 as open,
    close * 1.01 as high,
    close * 0.99 as low,
    close,
    close * 1.001 as vwap,
    cast(hash(number) % 1000000 as bigint) as volume,
    cast(100 as bigint) as trade_count,
    true as is_final

from closes
"""

_SAMPLE_VIEWS = {
    "bars_raw": "select * from sample_bars where getvariable('as_of') is null or date <= getvariable('as_of')::date",
    "corporate_actions": "select * from no_actions",
}
"""what stands for the relations that read the lake"""


def check(path: Path) -> list[Finding]:
    """All findings of a file or a folder of .sql files; empty: they may be trusted.

    A file is read together with the others of its folder, as it will be when it is loaded.

    Raises:
        BadParameter: there is no such file or folder, or no .sql file in it.
        SettingsError: a file cannot be read, or the files read each other in a circle.
    """
    folder = path if path.is_dir() else path.parent
    files = user_files(folder) if path.exists() else ()
    chosen = [file for file in files if path.is_dir() or file.path.name == path.name]
    if not chosen:
        raise BadParameter(f"no .sql file at {path}; to begin one: alchemiser-duck indicators new my_signal")
    findings = lint(files, frozenset(file.name for file in built_in_files()))
    if not findings:
        findings = _dry_run(files)
    return [finding for finding in findings if finding.path in {file.path for file in chosen}]


def _dry_run(files: Sequence[SqlFile]) -> list[Finding]:
    with duckdb.connect(":memory:") as con:
        con.execute("set timezone = 'UTC'")
        con.execute(f"set variable market_data = {literal(str(sql_root() / 'empty_lake'))}")
        con.execute(_SAMPLE_BARS)
        for file in built_in_files():
            con.execute(file.text)
            if file.name == "corporate_actions":
                con.execute("create table no_actions as from corporate_actions")
        for name, query in _SAMPLE_VIEWS.items():
            con.execute(f"create or replace view {name} as {query}")
        con.execute("set enable_external_access = false")
        findings = []
        for file in in_loading_order(files):
            try:
                con.execute(file.text)
                findings += [Finding(file.path, 1, reason) for reason in _run(con, file)]
            except duckdb.Error as problem:
                findings.append(Finding(file.path, 1, f"does not run on sample bars: {str(problem).splitlines()[0]}"))
        return findings


def _run(con: duckdb.DuckDBPyConnection, file: SqlFile) -> list[str]:
    call = identifier(file.name) + ("()" if file.is_indicator else "")
    columns = [row[0] for row in con.execute(f"describe select * from {call}").fetchall()]
    if not {"symbol", "timestamp"} < set(columns):
        return [f"gives {', '.join(columns)}: expected symbol, timestamp and at least one value"]
    twice = con.execute(f"select symbol, timestamp from {call} group by all having count(*) > 1 limit 1").fetchone()
    if twice:
        return [f"gives {twice[0]} twice at {twice[1]:%Y-%m-%d}: one row per symbol and timestamp is expected"]
    return [] if file.allows_look_ahead else _experiment(con, call)


def _experiment(con: duckdb.DuckDBPyConnection, call: str) -> list[str]:
    """Whether the values at some days change when the bars after them are taken away."""
    con.execute("set variable as_of = null")
    con.execute(f"create or replace temporary table whole as select * from {call}")
    for cut in CUTS:
        con.execute(f"set variable as_of = {literal(cut)}")
        con.execute(f"create or replace temporary table before_cut as select * from {call}")
        con.execute("set variable as_of = null")
        con.execute(f"create or replace temporary view up_to_cut as from whole where timestamp::date <= date '{cut}'")
        changed = con.execute(
            "from ((from up_to_cut except from before_cut) union all (from before_cut except from up_to_cut)) limit 1"
        ).fetchone()
        if changed:
            return [f"looks ahead: the values up to {cut} change when the bars after it are taken away"]
    return []


TEMPLATE = """-- {name}: distance of the close from its mean over n bars, in percent.
-- n: bars, n >= 1 | grain: symbol, timestamp | unit: percent | null until n bars are there
create or replace macro {name}(n := 20, source := 'bars') as table (

    with

    windowed as (

        select
            symbol,
            timestamp,
            close,
            avg(close) over trailing_bars as mean,
            count(close) over trailing_bars as bars_seen

        from query_table(source)

        where require_whole('{name}: n', n, 1)

        window trailing_bars as (
            partition by symbol
            order by timestamp
            rows between n - 1 preceding and current row
        )

    )

    select
        symbol,
        timestamp,
        case when bars_seen = n then 100 * (close / mean - 1) end as {name}

    from windowed

);

comment on macro table {name} is 'Distance of the close from its mean, percent.';
"""


def begin(name: str, folder: Path) -> Path:
    """Write a commented indicator to start from; returns its path.

    Raises:
        BadParameter: the name is not a SQL name, is taken by a built-in file, or the file exists.
        SettingsError: the folder cannot be written.
    """
    if not name.isidentifier() or name != name.lower() or not name.isascii():
        raise BadParameter(f"{name!r} is not a name: lower-case letters, digits and _, for example my_signal")
    if name in {file.name for file in built_in_files()}:
        raise BadParameter(f"{name} is built in: choose another name, for example my_{name}")
    path = folder / f"{name}.sql"
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(TEMPLATE.format(name=name))
    except FileExistsError:
        raise BadParameter(f"{path} exists: it was left as it is") from None
    except OSError as problem:
        raise SettingsError(f"cannot write {path}: {problem.strerror}") from problem
    return path
