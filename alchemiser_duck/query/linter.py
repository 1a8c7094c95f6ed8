"""Refuse users' .sql files that could do harm or see the future.

What the rules cannot show to be safe is refused, with the line and the reason: `mine.sql:3: lead() sees the future`.
A header line `-- allows look-ahead: <reason>` lets research labels through, marked as such; harm is never allowed.
"""

import re
from collections.abc import Iterator, Sequence
from functools import cache

from sqlglot import exp

from alchemiser_duck.errors import did_you_mean
from alchemiser_duck.query.catalogue import SqlFile, built_in_files
from alchemiser_duck.query.definitions import Definition, LintError, RefusedFile, parser, read_definition
from alchemiser_duck.query.look_back import declared_errors
from alchemiser_duck.query.sql_trees import (
    TIME_COLUMNS,
    column_names,
    function_name,
    is_column,
    is_over_window,
    resolved_window,
    table_name,
    window_function,
)

Violation = tuple[exp.Expr, str]
"""The part of the tree that breaks a rule, and the reason."""

_OUTSIDE = frozenset(
    {"getvariable", "getenv", "current_setting", "query", "write_log", "error_log", "nextval", "currval"}
)
_CLOCKS = frozenset(
    {"current_time", "current_timestamp", "current_localtime", "current_localtimestamp", "localtime", "localtimestamp"}
)
"""What DuckDB calls consistent, or knows under another name."""


def lint(files: Sequence[SqlFile], known: frozenset[str]) -> list[LintError]:
    """Check files against every rule.

    Args:
        files: read together, as they will be loaded.
        known: the relations and table macros that are there already (see `catalogue.built_in_names`).

    Returns:
        the errors by file and line; empty where the files may be loaded.
    """
    errors: list[LintError] = []
    definitions: list[Definition] = []
    for file in files:
        errors += declared_errors(file)
        try:
            definitions.append(read_definition(file))
        except RefusedFile as refused:
            errors.append(refused.error)
    names = known | {file.name for file in files}
    tainted = _tainted(definitions)
    for definition in definitions:
        violations = [*_name_violations(definition), *_harm(definition, names)]
        if definition.file.allows_look_ahead is None:
            violations += [*_look_ahead(definition), *_borrowed_look_ahead(definition, tainted)]
        errors += [LintError(definition.file.path, definition.line(node), reason) for node, reason in violations]
    return sorted(set(errors))


def is_duckdb_function(name: str) -> bool:
    """Return whether DuckDB itself has a function of this name."""
    return name.lower() in _functions("true")


def _name_violations(definition: Definition) -> Iterator[Violation]:
    file = definition.file
    if not file.is_built_in and is_duckdb_function(file.name):
        yield (
            definition.body,
            f"{file.name} is a function of DuckDB: rename the file, for example to my_{file.name}.sql",
        )


def _harm(definition: Definition, names: frozenset[str]) -> Iterator[Violation]:
    """Yield what reads or does anything outside of the layer."""
    for table in definition.tables():
        name = table_name(table)
        if isinstance(table.this, exp.Func):
            if name == "query_table":
                argument = table.this.expressions[0] if table.this.expressions else None
                if not is_column(argument, *definition.parameters):
                    yield table, "query_table takes the macro's own source parameter and nothing else"
            elif name not in names:
                yield table, f"{name}() is no indicator of the layer{did_you_mean(name, names)}"
        elif name not in names or table.db or table.catalog:
            yield table, f"no relation {table.sql('duckdb')!r} in the layer{did_you_mean(name, names)}"
    for function in definition.body.find_all(exp.Func):
        name = function_name(function)
        if name in _unstable_functions() or (name == "age" and len(list(function.iter_expressions())) < 2):
            yield function, f"{name}() gives another answer each time, or reads what is not a bar"


def _look_ahead(definition: Definition) -> Iterator[Violation]:
    """Yield what could let a row depend on a later one."""
    body = definition.body
    for name in definition.parameters & (TIME_COLUMNS | {"symbol"}):
        yield body, f"a parameter named {name} hides the column of that name"
    for window in body.find_all(exp.Window):
        if not isinstance(window.this, exp.Identifier):  # a definition in WINDOW is judged where it is used
            yield from _window_look_ahead(window, definition)
    for select in body.find_all(exp.Select):
        yield from _select_look_ahead(select)
    for join in body.find_all(exp.Join):
        if not _joins_same_time(join):
            yield join, "a join must match timestamps: using (symbol, timestamp), or on a.timestamp = b.timestamp"
    for query in body.find_all(exp.Select, exp.SetOperation):
        holder = query.parent
        while isinstance(holder, exp.Subquery):
            holder = holder.parent
        if not isinstance(holder, exp.From | exp.Join | exp.CTE | exp.SetOperation | None):
            yield query, "a subquery inside an expression may look at any row: join it instead"
    yield from _disguised_times(body)


def _disguised_times(body: exp.Expr) -> Iterator[Violation]:
    """Yield what could hide where a row's time comes from."""
    for node in body.find_all(exp.With, exp.TableAlias, exp.Star, exp.Pivot, exp.SetOperation, exp.Alias):
        match node:
            case exp.With() if node.args.get("recursive"):
                yield node, "a recursive query cannot be shown to be free of look-ahead"
            case exp.TableAlias() if node.args.get("columns"):
                yield node, "columns are named with `as` in the SELECT, not in a list behind an alias"
            case exp.Star() if node.args.get("replace") or node.args.get("rename"):
                yield node, "a star that replaces or renames columns can disguise time: list the columns"
            case exp.Pivot():
                yield node, "a pivot aggregates over all time"
            case exp.SetOperation() if node.left.named_selects != node.right.named_selects:
                yield node, "both sides of a set operation must name the same columns in the same order"
            case exp.Alias() if node.alias.lower() in TIME_COLUMNS and not is_column(node.this, node.alias.lower()):
                yield node, f"{node.alias} must be passed on as it is: a shifted {node.alias} moves values in time"


def _window_look_ahead(window: exp.Window, definition: Definition) -> Iterator[Violation]:
    partition, order, frame = resolved_window(window)
    columns = column_names(partition)
    if columns & TIME_COLUMNS:
        return  # a cross-section: all rows are of one time
    function = window_function(window)
    if isinstance(function, exp.Lead):
        yield window, "lead() sees the future"
    if isinstance(function, exp.Lag) and _may_be_negative(function.args.get("offset"), definition):
        yield window, "a negative lag() sees the future"
    if "symbol" not in columns:
        yield window, "a window over time needs partition by symbol, or it mixes symbols"
    if not order:
        yield window, "a window without order by timestamp sees the whole history, the future included"
    elif not is_column(order[0].this, *TIME_COLUMNS) or order[0].args.get("desc"):
        yield window, "a window over time must be ordered by timestamp, oldest first"
    if frame is not None:
        yield from _frame_look_ahead(window, frame, "start", definition)
        yield from _frame_look_ahead(window, frame, "end", definition)


def _frame_look_ahead(window: exp.Window, frame: exp.Expr, side: str, definition: Definition) -> Iterator[Violation]:
    bound, direction = frame.args.get(side), str(frame.args.get(f"{side}_side") or "").lower()
    if direction == "following" and not (isinstance(bound, exp.Literal) and bound.name == "0"):
        yield window, "a frame that reaches into following rows sees the future"
    elif direction == "preceding" and isinstance(bound, exp.Expr) and _may_be_negative(bound, definition):
        yield window, "a frame with a negative bound sees the future"


def _select_look_ahead(select: exp.Select) -> Iterator[Violation]:
    if select.find(exp.Table) is None:
        return
    group = select.args.get("group")
    keys = select.expressions if group and group.args.get("all") else group.expressions if group else []
    if not any(is_column(key, *TIME_COLUMNS) for key in keys):
        for function in select.find_all(exp.Func):
            own = function.find_ancestor(exp.Select) is select
            if own and not is_over_window(function) and function_name(function) in _aggregates():
                yield function, "an aggregate over all time sees the future: group by timestamp, or use a window"
                break
    clauses = [(name, select.args.get(name)) for name in ("limit", "offset", "distinct")]
    for name, clause in [*clauses, ("sample", select.find(exp.TableSample))]:
        if clause:
            yield clause, f"{name} keeps rows for what other rows are: use a window"


def _borrowed_look_ahead(definition: Definition, tainted: frozenset[str]) -> Iterator[Violation]:
    for name, node in definition.names_read().items():
        if name in tainted:
            yield node, f"{name} is allowed to look ahead, so what reads it does too"


def _tainted(definitions: Sequence[Definition]) -> frozenset[str]:
    """Return the relations that may look ahead, directly or through others."""
    files = [*built_in_files(), *(definition.file for definition in definitions)]
    tainted = {file.name for file in files if file.allows_look_ahead is not None}
    while more := {d.file.name for d in definitions if tainted & d.names_read().keys()} - tainted:
        tainted |= more
    return frozenset(tainted)


def _joins_same_time(join: exp.Join) -> bool:
    if str(join.args.get("method") or "").upper() in ("ASOF", "POSITIONAL"):
        return False
    using = {item.name.lower() for item in join.args.get("using") or ()}
    if using:
        return bool(using & TIME_COLUMNS)
    condition = join.args.get("on")
    if condition is None:
        return join.find(exp.Table) is None  # constants beside each row
    parts = condition.flatten() if isinstance(condition, exp.And) else [condition]
    return any(
        is_column(part.left, name) and is_column(part.right, name)
        for part in (part.unnest() for part in parts)
        if isinstance(part, exp.EQ)
        for name in TIME_COLUMNS
    )


def _may_be_negative(value: exp.Expr | None, definition: Definition) -> bool:
    """Return whether an offset is not plainly a count of rows."""
    if value is None:
        return False
    value = value.unnest()
    defaults = {name.lower(): text for name, text in definition.file.parameters.items()}
    columns = column_names(list(value.find_all(exp.Column)))
    return (
        any(defaults.get(column, "-").startswith("-") for column in columns)
        or value.find(exp.Neg, exp.Subquery, exp.Case) is not None
        or any(not isinstance(minus.left.unnest(), exp.Column) for minus in value.find_all(exp.Sub))
    )


@cache
def _aggregates() -> frozenset[str]:
    return _functions("function_type = 'aggregate'")


@cache
def _unstable_functions() -> frozenset[str]:
    """Return the functions that do not depend on their arguments alone."""
    unstable = _functions("stability <> 'CONSISTENT' and function_type = 'scalar'") - {"error"}  # it keeps a bound
    unstable |= _CLOCKS | _OUTSIDE
    macros = (
        parser()
        .cursor()
        .execute("select function_name, macro_definition from duckdb_functions() where function_type = 'macro'")
        .fetchall()
    )
    through = {name.lower() for name, text in macros if text and unstable & set(re.findall(r"\w+", text.lower()))}
    return unstable | through


@cache
def _functions(condition: str) -> frozenset[str]:
    query = f"select distinct function_name from duckdb_functions() where {condition}"
    return frozenset(name.lower() for (name,) in parser().cursor().execute(query).fetchall())
