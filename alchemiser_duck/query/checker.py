"""Check indicators before they are trusted: the linter's rules, then experiments on sample bars.

- The values up to a day, computed from all bars, must be exactly those computed from the bars up to that day: this
  finds look-ahead that no rule thought of.
- The newest values, computed from as many bars as the look-back says, must be those of the whole history: `latest`
  reads no more than that. A macro with `n := 20` over 19 bars before its row and `-- look-back: 18` is found.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import duckdb

from alchemiser_duck.errors import BadParameter, SettingsError
from alchemiser_duck.query.catalogue import KEYS, IndicatorCall, SqlFile, built_in_names, user_files
from alchemiser_duck.query.definitions import LintError, in_loading_order
from alchemiser_duck.query.linter import is_duckdb_function, lint
from alchemiser_duck.query.literals import identifier, literal
from alchemiser_duck.query.look_back import look_back_of
from alchemiser_duck.query.sample_bars import keep_newest_bars, make_sample_bars, sample_layer, telling_symbols

CUTS = ("2023-09-15", "2024-02-29", "2024-07-05", "2024-12-31")
LONGEST_LOOK_BACK = 5_000
"""Bars; a longer look-back is not tried out."""
TOLERANCE = 1e-9
"""Relative; an average with an infinite memory forgets all but 1e-12 within its look-back."""


def check(path: Path) -> list[LintError]:
    """Check a file or a folder of .sql files.

    A file is read together with the others of its folder, as it will be when it is loaded.

    Returns:
        the errors by file and line; empty where the files may be trusted.

    Raises:
        BadParameter: there is no such file or folder, or no .sql file in it.
        SettingsError: a file is not text, or the files read each other in a circle.
    """
    folder = path if path.is_dir() else path.parent
    files = user_files(folder) if path.exists() else ()
    chosen = [file for file in files if path.is_dir() or file.path.name == path.name]
    if not chosen:
        raise BadParameter(f"no .sql file at {path}; to begin one: alchemiser-duck indicators new my_signal")
    errors = lint(files, built_in_names()) or _dry_run(files)
    return [error for error in errors if error.path in {file.path for file in chosen}]


def _dry_run(files: Sequence[SqlFile]) -> list[LintError]:
    """Run files that the linter passed on sample bars."""
    errors = []
    with sample_layer() as con:
        for file in in_loading_order(files):
            try:
                con.execute(file.text)
                errors += [LintError(file.path, 1, reason) for reason in _try_out(con, file)]
            except duckdb.Error as problem:
                reason = f"does not run on sample bars: {str(problem).splitlines()[0]}"
                errors.append(LintError(file.path, 1, reason))
        if not errors:
            for file in files:
                errors += [LintError(file.path, file.look_back_line, reason) for reason in _look_back_faults(con, file)]
    return errors


def _try_out(con: duckdb.DuckDBPyConnection, file: SqlFile) -> list[str]:
    """Return what is wrong with a file's rows."""
    call = identifier(file.name) + ("()" if file.is_indicator else "")
    columns = [row[0] for row in con.execute(f"describe select * from {call}").fetchall()]
    if not set(KEYS) < set(columns):
        return [f"gives {', '.join(columns)}: expected symbol, timestamp and at least one value"]
    twice = con.execute(f"select symbol, timestamp from {call} group by all having count(*) > 1 limit 1").fetchone()
    if twice:
        return [f"gives {twice[0]} twice at {twice[1]:%Y-%m-%d}: one row per symbol and timestamp is expected"]
    return [] if file.allows_look_ahead else _look_ahead_faults(con, call)


def _look_ahead_faults(con: duckdb.DuckDBPyConnection, call: str) -> list[str]:
    """Return whether values change when the bars after them are taken away."""
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


def _look_back_faults(con: duckdb.DuckDBPyConnection, file: SqlFile) -> list[str]:
    """Return why a look-back is too short, for defaults and larger values."""
    look_back = look_back_of(file) if file.is_indicator else None
    if look_back is None:
        return []
    larger = {name: str(3 * int(text) + 20) for name, text in file.parameters.items() if re.fullmatch(r"\d+", text)}
    try:
        faults = _look_back_fault(con, file, look_back, {})
    except (duckdb.Error, ValueError, OverflowError) as problem:
        return [f"look-back {look_back!r} cannot be computed: {str(problem).splitlines()[0]}"]
    if faults or not larger:
        return faults
    try:
        return _look_back_fault(con, file, look_back, larger)
    except (duckdb.Error, ValueError, OverflowError):
        return []  # the larger parameters are out of the macro's bounds


def _look_back_fault(
    con: duckdb.DuckDBPyConnection, file: SqlFile, look_back: str, arguments: Mapping[str, str]
) -> list[str]:
    """Compare the newest values with those from the look-back's bars alone."""
    values = ", ".join(f"{text} as {identifier(name)}" for name, text in {**file.parameters, **arguments}.items())
    row = con.execute(f"select {look_back} from (select {values or 'null as nothing'})").fetchone()
    if row is None or row[0] is None or row[0] > LONGEST_LOOK_BACK:
        return []
    bars = int(row[0])
    if bars < 0:
        return [f"look-back {look_back!r} is {bars}: it is a number of bars, 0 or more"]
    call = IndicatorCall(file, dict(arguments)).sql("bars")
    make_sample_bars(con, bars + 100, telling_symbols(bars))
    con.execute(f"create or replace temporary table whole as from {call}")
    keep_newest_bars(con, bars + 1)
    con.execute(f"create or replace temporary table tail as from {call}")
    at = "".join(f", {name} = {text}" for name, text in arguments.items())
    return [
        f"look-back {look_back!r} is too short{at}: {column} of the newest row is {short} from the {bars} bars "
        f"before it, and {whole} from all of them"
        for column, whole, short in _differences(con)
    ][:1]


def _differences(con: duckdb.DuckDBPyConnection) -> Iterator[tuple[str, object, object]]:
    """Yield each column that differs between `whole` and `tail`, with both values."""
    for name, kind, *_ in con.execute("describe whole").fetchall():
        if name.lower() in KEYS:
            continue
        column = identifier(name)
        differs = "whole.value is distinct from tail.value"
        if kind.startswith(("DECIMAL", "DOUBLE", "FLOAT", "HUGEINT", "BIGINT", "INTEGER", "SMALLINT", "TINYINT", "U")):
            # a difference of nearly equal numbers is as exact as they are: a thousandth of the largest value counts
            scale = "greatest(abs(whole.value), abs(tail.value), whole.largest / 1000)"
            within = f"coalesce(abs(whole.value::double - tail.value::double) <= {TOLERANCE!r} * {scale}, false)"
            differs += f" and not {within}"
        largest = "max(abs(try_cast(value as double))) over (partition by symbol) as largest"
        newest = "qualify row_number() over (partition by symbol order by timestamp desc) = 1"
        different = con.execute(f"""
            select whole.value, tail.value
            from (select *, {largest} from (select symbol, timestamp, {column} as value from whole) {newest}) as whole
            full join (select symbol, timestamp, {column} as value from tail {newest}) as tail using (symbol, timestamp)
            where {differs} order by symbol limit 1
        """).fetchone()
        if different:
            yield name, *different


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
    """Write a commented indicator to start from, and return its path.

    Raises:
        BadParameter: the name is not a SQL name, is taken by the layer or by DuckDB, or the file exists.
        SettingsError: the folder cannot be written.
    """
    if not name.isidentifier() or name != name.lower() or not name.isascii():
        raise BadParameter(f"{name!r} is not a name: lower-case letters, digits and _, for example my_signal")
    if name in built_in_names() or is_duckdb_function(name):
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
