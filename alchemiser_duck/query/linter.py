"""The linter: reads a user's .sql file before it runs, and refuses what could do harm or see the future.

sqlglot only reads: the author's text is executed unchanged. What the rules cannot show to be safe is refused, with the
line and the reason; a header line `-- allows look-ahead: <reason>` lets research labels through, marked as such.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import duckdb
import sqlglot
import sqlglot.dialects.duckdb  # sqlglot would import it within the first query
from sqlglot import exp
from sqlglot.errors import SqlglotError

from alchemiser_duck.errors import SettingsError, did_you_mean
from alchemiser_duck.query.catalogue import SqlFile, built_in_files, built_in_functions

TIME_COLUMNS = frozenset({"timestamp", "date"})

_LEADING_COMMENTS = re.compile(r"\A(?:\s|--[^\n]*\n|/\*.*?\*/)*", re.DOTALL)
_CREATE = re.compile(
    r"\Acreate\s+or\s+replace\s+(?:"
    r"macro\s+(?P<macro>\w+)\s*\([^()]*\)\s*as\s+table|view\s+(?P<view>\w+)\s+as)\b",
    re.IGNORECASE,
)
_COMMENT = re.compile(r"\Acomment\s+on\s+(?:view|macro\s+table|macro)\s+(\w+)\s+is\b", re.IGNORECASE)
_FORBIDDEN = frozenset(
    {"getvariable", "getenv", "current_setting", "query", "write_log", "error_log", "nextval", "currval"}
)


@dataclass(frozen=True, order=True)
class Finding:
    """Something that keeps a file from being loaded."""

    path: Path
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.reason}"


@dataclass(frozen=True)
class Definition:
    """What a file defines, as sqlglot reads it."""

    file: SqlFile
    parameters: frozenset[str]
    body: exp.Expr
    first_line: int
    """the file's line on which the body begins"""

    def line(self, node: exp.Expr) -> int:
        """The line a node is on, as near as its names tell."""
        candidate: exp.Expr | None = node
        while candidate is not None:
            lines = [int(found.meta["line"]) for found in candidate.find_all(exp.Identifier) if "line" in found.meta]
            if lines:
                return self.first_line - 1 + min(lines)
            candidate = candidate.parent
        return self.first_line

    def tables(self) -> Iterator[exp.Table]:
        """The relations and table functions that are read, names of CTEs left out."""
        local = {cte.alias_or_name.lower() for cte in self.body.find_all(exp.CTE)}
        for table in self.body.find_all(exp.Table):
            if isinstance(table.this, exp.Func) or table.name.lower() not in local:
                yield table

    def names_read(self) -> dict[str, exp.Expr]:
        """The relations and macros that are read, also those handed to a macro as its source."""
        found: dict[str, exp.Expr] = {}
        for table in self.tables():
            found.setdefault(_name_of(table), table)
            if isinstance(table.this, exp.Func):
                for text in table.find_all(exp.Literal):
                    if text.is_string:
                        found.setdefault(text.name.lower(), table)
        return found


def lint(files: Sequence[SqlFile], known: frozenset[str]) -> list[Finding]:
    """All findings in the files, by file and line; empty: they may be loaded.

    Args:
        known: the relations and table macros that are there already.
    """
    findings: list[Finding] = []
    definitions: list[Definition] = []
    for file in files:
        try:
            definitions.append(read(file))
        except _RefusedError as refused:
            findings.append(refused.finding)
    names = known | {file.name for file in files}
    tainted = _tainted(definitions)
    for definition in definitions:
        reasons = [*_harm(definition, names)]
        if definition.file.allows_look_ahead is None:
            reasons += [*_look_ahead(definition), *_borrowed_look_ahead(definition, tainted)]
        findings += [Finding(definition.file.path, definition.line(node), reason) for node, reason in reasons]
    return sorted(set(findings))


def in_loading_order(files: Sequence[SqlFile]) -> list[SqlFile]:
    """The files, each after those it reads.

    Raises:
        SettingsError: they read each other in a circle, or one of them cannot be read.
    """
    by_name = {file.name: file for file in files}
    ordered: list[SqlFile] = []

    def visit(file: SqlFile, path: tuple[str, ...]) -> None:
        if file.name in path:
            circle = " -> ".join((*path[path.index(file.name) :], file.name))
            raise SettingsError(f"{file.path}:1: these files read each other in a circle: {circle}")
        if file in ordered:
            return
        try:
            definition = read(file)
        except _RefusedError as refused:
            raise SettingsError(str(refused.finding)) from None
        for name in sorted(definition.names_read()):
            if name in by_name:
                visit(by_name[name], (*path, file.name))
        ordered.append(file)

    for file in files:
        visit(file, ())
    return ordered


class _RefusedError(Exception):
    def __init__(self, finding: Finding) -> None:
        super().__init__(str(finding))
        self.finding = finding


def read(file: SqlFile) -> Definition:
    """The one definition in a file: a table macro or a view named after it, and its comment; nothing else."""

    def refuse(line: int, reason: str) -> _RefusedError:
        return _RefusedError(Finding(file.path, line, reason))

    found: Definition | None = None
    for text, line in _statements(file):
        if comment := _COMMENT.match(text):
            if comment.group(1).lower() != file.name:
                raise refuse(line, f"comments on {comment.group(1)}, but the file is named {file.name}")
            continue
        created = _CREATE.match(text)
        if not created:
            allowed = "`create or replace macro … as table` or `create or replace view … as`"
            raise refuse(line, f"only {allowed} and its comment may stand here, not: {' '.join(text.split()[:4])}")
        name = created.group("macro") or created.group("view")
        if found is not None or name.lower() != file.name:
            raise refuse(line, f"defines {name}: a file defines one relation, named after it ({file.name})")
        body = text[created.end() :].lstrip()
        first_line = line + text.count("\n", 0, len(text) - len(body))
        try:
            tree = sqlglot.parse_one(body.rstrip().rstrip(";"), read="duckdb")
        except SqlglotError as problem:
            raise refuse(first_line, f"cannot be read: {str(problem).splitlines()[0]}") from None
        if not isinstance(tree, exp.Query):
            raise refuse(first_line, "the body is not a SELECT")
        found = Definition(file, frozenset(name.lower() for name in file.parameters), tree, first_line)
    if found is None:
        raise refuse(1, f"defines nothing: expected `create or replace macro {file.name}(…) as table (…)`")
    return found


def _statements(file: SqlFile) -> Iterator[tuple[str, int]]:
    """The statements as DuckDB itself separates them, each with the line it begins on, comments before it skipped."""
    try:
        texts = [str(statement.query) for statement in _parser().extract_statements(file.text)]
    except (duckdb.Error, IndexError) as problem:
        raise _RefusedError(Finding(file.path, _error_line(problem), str(problem).splitlines()[0])) from None
    offset = 0
    for text in texts:
        start = file.text.find(text, offset)
        offset = start + len(text)
        code = _LEADING_COMMENTS.sub("", text)
        yield code, 1 + file.text.count("\n", 0, offset - len(code))


def infer_look_back(file: SqlFile) -> str | None:
    """How many bars before a row its value depends on, as a SQL expression of the parameters; None: no bound is seen.

    Read from window frames and lag offsets, added up through nested queries.
    """
    definition = read(file)
    if _drops_rows_inside(definition):
        return None
    return _depth(definition.body, {})


def _drops_rows_inside(definition: Definition) -> bool:
    """Whether a nested query leaves rows out: a window above it then reaches back further than its frame says."""
    outermost = definition.body.unnest()
    for clause in definition.body.find_all(exp.Where, exp.Qualify, exp.Having):
        depends_on_rows = any(c.name.lower() not in definition.parameters for c in clause.find_all(exp.Column))
        if clause.parent is not outermost and depends_on_rows:
            return True
    return False


def bar_counts(file: SqlFile) -> frozenset[str]:
    """The parameters that reach a window's frame or a lag's offset: numbers of bars, never negative."""
    definition = read(file)
    columns: set[str] = set()
    for window in definition.body.find_all(exp.Window):
        frame = window.args.get("spec")
        bounds = [frame.args.get("start"), frame.args.get("end")] if frame is not None else []
        bounds += [lag.args.get("offset") for lag in window.find_all(exp.Lag)]
        for bound in bounds:
            if isinstance(bound, exp.Expr):
                columns |= {column.name.lower() for column in bound.find_all(exp.Column)}
    return frozenset(columns & definition.parameters)


_Reason = tuple[exp.Expr, str]


def _harm(definition: Definition, names: frozenset[str]) -> Iterator[_Reason]:
    """What reads or does anything outside of the layer."""
    for table in definition.tables():
        name = _name_of(table)
        if isinstance(table.this, exp.Func):
            if name == "query_table":
                argument = table.this.expressions[0] if table.this.expressions else None
                if not isinstance(argument, exp.Column) or argument.name.lower() not in definition.parameters:
                    yield table, "query_table takes the macro's own source parameter and nothing else"
            elif name not in names:
                yield table, f"{name}() is no indicator of the layer{did_you_mean(name, names)}"
        elif name not in names or table.db or table.catalog:
            yield table, f"no relation {table.sql('duckdb')!r} in the layer{did_you_mean(name, names)}"
    unstable = (_unstable_functions() | _FORBIDDEN) - {"error"}  # error() is how a bound is kept
    for function in definition.body.find_all(exp.Func):
        name = function_name(function)
        if name in unstable:
            yield function, f"{name}() gives another answer each time, or reads what is not a bar"


def _look_ahead(definition: Definition) -> Iterator[_Reason]:
    """What could let a row depend on a later one."""
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
    for nested in _queries_inside_expressions(body):
        yield nested, "a subquery inside an expression may look at any row: join it instead"
    yield from _disguised_times(body)


def _disguised_times(body: exp.Expr) -> Iterator[_Reason]:
    """What could give the name of a time to something else, or hide where a row's time comes from."""
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
            case exp.Alias() if node.alias.lower() in TIME_COLUMNS and not _is_column(node.this, node.alias):
                yield node, f"{node.alias} must be passed on as it is: a shifted {node.alias} moves values in time"


def _is_column(node: exp.Expr, name: str) -> bool:
    return isinstance(node, exp.Column) and node.name.lower() == name.lower()


def _queries_inside_expressions(body: exp.Expr) -> Iterator[exp.Expr]:
    for query in body.find_all(exp.Select, exp.SetOperation):
        holder = query.parent
        while isinstance(holder, exp.Subquery):
            holder = holder.parent
        if not isinstance(holder, exp.From | exp.Join | exp.CTE | exp.SetOperation | None):
            yield query


def _window_look_ahead(window: exp.Window, definition: Definition) -> Iterator[_Reason]:
    partition, order, frame = resolved_window(window)
    columns = {part.name.lower() for part in partition if isinstance(part, exp.Column)}
    if columns & TIME_COLUMNS:
        return  # a cross-section: all rows are of one time
    function = _bare_function(window)
    if isinstance(function, exp.Lead):
        yield window, "lead() sees the future"
    if isinstance(function, exp.Lag) and _may_be_negative(function.args.get("offset"), definition):
        yield window, "a negative lag() sees the future"
    if "symbol" not in columns:
        yield window, "a window over time needs partition by symbol, or it mixes symbols"
    if not order:
        yield window, "a window without order by timestamp sees the whole history, the future included"
    elif not _is_time(order[0].this) or order[0].args.get("desc"):
        yield window, "a window over time must be ordered by timestamp, oldest first"
    if frame is not None:
        yield from _frame_look_ahead(window, frame, "start", definition)
        yield from _frame_look_ahead(window, frame, "end", definition)


def _frame_look_ahead(window: exp.Window, frame: exp.Expr, side: str, definition: Definition) -> Iterator[_Reason]:
    bound, direction = frame.args.get(side), str(frame.args.get(f"{side}_side") or "").lower()
    if direction == "following" and not (isinstance(bound, exp.Literal) and bound.name == "0"):
        yield window, "a frame that reaches into following rows sees the future"
    elif direction == "preceding" and isinstance(bound, exp.Expr) and _may_be_negative(bound, definition):
        yield window, "a frame with a negative bound sees the future"


def _is_time(node: exp.Expr | None) -> bool:
    return isinstance(node, exp.Column) and node.name.lower() in TIME_COLUMNS


def _bare_function(window: exp.Window) -> exp.Expr:
    function: exp.Expr = window.this
    while isinstance(function, exp.IgnoreNulls | exp.RespectNulls | exp.Filter):
        function = function.this
    return function


def _select_look_ahead(select: exp.Select) -> Iterator[_Reason]:
    if not any(True for _ in select.find_all(exp.Table)):
        return
    keys = select.args["group"].expressions if select.args.get("group") else []
    group = select.args.get("group")
    if group and group.args.get("all"):
        keys = select.expressions
    if not any(_is_time(key) for key in keys):
        for function in select.find_all(exp.Func):
            own = function.find_ancestor(exp.Select) is select
            windowed = isinstance(_unwrapped_parent(function), exp.Window)
            if own and not windowed and function_name(function) in _aggregates():
                yield function, "an aggregate over all time sees the future: group by timestamp, or use a window"
                break
    for name in ("limit", "offset", "distinct", "sample"):
        if select.args.get(name):
            yield select.args[name], f"{name} keeps rows for what other rows are: use a window"


def _borrowed_look_ahead(definition: Definition, tainted: frozenset[str]) -> Iterator[_Reason]:
    for name, node in definition.names_read().items():
        if name in tainted:
            yield node, f"{name} is allowed to look ahead, so what reads it does too"


def _tainted(definitions: Sequence[Definition]) -> frozenset[str]:
    """The relations that may look ahead, on their own account or through what they read."""
    files = [*built_in_files(), *(definition.file for definition in definitions)]
    tainted = {file.name for file in files if file.allows_look_ahead is not None}
    while True:
        more = {d.file.name for d in definitions if tainted & d.names_read().keys()} - tainted
        if not more:
            return frozenset(tainted)
        tainted |= more


def _joins_same_time(join: exp.Join) -> bool:
    if str(join.args.get("method") or "").upper() in ("ASOF", "POSITIONAL"):
        return False
    using = {item.name.lower() for item in join.args.get("using") or ()}
    if using:
        return bool(using & TIME_COLUMNS)
    condition = join.args.get("on")
    if condition is None:
        return not any(True for _ in join.find_all(exp.Table))  # constants beside each row
    parts = condition.flatten() if isinstance(condition, exp.And) else [condition]
    for part in parts:
        part = part.unnest()
        if isinstance(part, exp.EQ) and isinstance(part.this, exp.Column) and isinstance(part.expression, exp.Column):
            left, right = part.this.name.lower(), part.expression.name.lower()
            if left == right and left in TIME_COLUMNS:
                return True
    return False


def resolved_window(
    window: exp.Window, select: exp.Expr | None = None
) -> tuple[list[exp.Expr], list[exp.Expr], exp.Expr | None]:
    """Partition, order and frame of a window, through the WINDOW clause of its SELECT that it may name."""
    partition = list(window.args.get("partition_by") or [])
    order = window.args["order"].expressions if window.args.get("order") else []
    frame = window.args.get("spec")
    name = window.args.get("alias")
    select = select or window.find_ancestor(exp.Select)
    for named in (select.args.get("windows") or []) if select and name is not None else []:
        if name is not None and named.this.name.lower() == name.name.lower():
            base_partition, base_order, base_frame = resolved_window(named, select)
            return partition or base_partition, order or base_order, frame or base_frame
    return partition, order, frame


def _may_be_negative(value: exp.Expr | None, definition: Definition) -> bool:
    """Whether an offset is not plainly a count of rows: a minus sign, a column, something subtracted from a number."""
    if value is None:
        return False
    value = value.unnest()
    defaults = {name.lower(): text for name, text in definition.file.parameters.items()}
    for column in value.find_all(exp.Column):
        if defaults.get(column.name.lower(), "-").startswith("-"):
            return True
    if any(True for _ in value.find_all(exp.Neg, exp.Subquery, exp.Case)):
        return True
    return any(not isinstance(minus.left.unnest(), exp.Column) for minus in value.find_all(exp.Sub))


def _depth(query: exp.Expr, local: dict[str, str | None]) -> str | None:
    """The look-back of a query given that of its CTEs; None: unbounded."""
    if isinstance(query, exp.Subquery):
        return _depth(query.this, local)
    if isinstance(query, exp.SetOperation):
        return _greatest([_depth(query.left, local), _depth(query.right, local)])
    if not isinstance(query, exp.Select):
        return None
    local = dict(local)
    if query.args.get("with_"):
        for cte in query.args["with_"].expressions:
            local[cte.alias_or_name.lower()] = _depth(cte.this, local)
    sources = [query.args["from_"].this] if query.args.get("from_") else []
    sources += [join.this for join in query.args.get("joins") or ()]
    below = _greatest([_source_depth(source, local) for source in sources] or ["0"])
    windows = [w for w in query.find_all(exp.Window) if w.find_ancestor(exp.Select) is query]
    depths = [_window_depth(window) for window in windows if not isinstance(window.this, exp.Identifier)]
    calls = [call for call in query.find_all(exp.Anonymous) if call.find_ancestor(exp.Select) is query]
    depths += [_call_depth(call) for call in calls if call.name.lower() in windowed_functions()]
    own = _greatest(depths or ["0"])
    if below is None or own is None:
        return None
    return own if below == "0" else below if own == "0" else f"({below}) + ({own})"


def _source_depth(source: exp.Expr, local: dict[str, str | None]) -> str | None:
    if isinstance(source, exp.Subquery):
        return _depth(source, local)
    if not isinstance(source, exp.Table):
        return None
    name = _name_of(source)
    if name in local and not isinstance(source.this, exp.Func):
        return local[name]
    return "0" if name in ("query_table", "bars", "bars_split", "bars_raw") else None


def _window_depth(window: exp.Window) -> str | None:
    partition, _, frame = resolved_window(window)
    if {part.name.lower() for part in partition if isinstance(part, exp.Column)} & TIME_COLUMNS:
        return "0"
    function = _bare_function(window)
    if isinstance(function, exp.Lag):
        offset = function.args.get("offset")
        return offset.sql("duckdb") if offset is not None else "1"
    if frame is None or str(frame.args.get("kind") or "").lower() != "rows":
        return None
    start = frame.args.get("start")
    if str(frame.args.get("start_side") or "").lower() == "preceding" and isinstance(start, exp.Expr):
        return start.sql("duckdb")
    return "0" if str(start).upper() == "CURRENT ROW" else None


def _call_depth(call: exp.Anonymous) -> str | None:
    """The look-back that a function's header gives, with the call's arguments for its parameters."""
    file = windowed_functions()[call.name.lower()]
    if file.look_back is None:
        return None
    arguments = dict(zip(file.parameters, call.expressions, strict=False))
    look_back = sqlglot.parse_one(file.look_back, read="duckdb")
    return look_back.transform(
        lambda node: exp.paren(arguments[node.name].copy()) if _is_parameter(node, arguments) else node
    ).sql("duckdb")


def _is_parameter(node: exp.Expr, arguments: Mapping[str, exp.Expr]) -> bool:
    return isinstance(node, exp.Column) and node.name in arguments


@cache
def windowed_functions() -> Mapping[str, SqlFile]:
    """The layer's functions with a window inside, on their own account or through what they call."""
    functions = built_in_functions()
    windowed = {name for name, file in functions.items() if " over (" in file.text}
    while more := {
        name
        for name, file in functions.items()
        if name not in windowed and any(f"{other}(" in file.text for other in windowed)
    }:
        windowed |= more
    return {name: functions[name] for name in windowed}


def _greatest(depths: Sequence[str | None]) -> str | None:
    if any(depth is None for depth in depths):
        return None
    distinct = list(dict.fromkeys(depth for depth in depths if depth is not None and depth != "0"))
    if not distinct:
        return "0"
    return distinct[0] if len(distinct) == 1 else f"greatest({', '.join(distinct)})"


def _name_of(table: exp.Table) -> str:
    return function_name(table.this) if isinstance(table.this, exp.Func) else table.name.lower()


def function_name(function: exp.Expr) -> str:
    """The name DuckDB knows a function by."""
    if isinstance(function, exp.Anonymous):
        return str(function.name).lower()
    found = re.match(r"\w+", function.sql("duckdb"))
    return found.group().lower() if found else ""


def _unwrapped_parent(function: exp.Expr) -> exp.Expr | None:
    parent = function.parent
    while isinstance(parent, exp.IgnoreNulls | exp.RespectNulls | exp.Filter | exp.WithinGroup):
        parent = parent.parent
    return parent


def _error_line(problem: Exception) -> int:
    found = re.search(r"LINE (\d+):", str(problem))
    return int(found.group(1)) if found else 1


@cache
def _parser() -> duckdb.DuckDBPyConnection:
    return duckdb.connect(":memory:")


@cache
def _aggregates() -> frozenset[str]:
    return _functions("function_type = 'aggregate'")


@cache
def _unstable_functions() -> frozenset[str]:
    """Functions that DuckDB itself does not call consistent: random, now, nextval, …"""
    return _functions("stability is not null and stability <> 'CONSISTENT' and function_type = 'scalar'")


def _functions(condition: str) -> frozenset[str]:
    query = f"select distinct function_name from duckdb_functions() where {condition}"
    rows = _parser().cursor().execute(query).fetchall()
    return frozenset(name.lower() for (name,) in rows)
