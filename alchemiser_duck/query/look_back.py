"""Look-backs: how many bars before a row its value depends on.

A file declares it in a header line (`-- look-back: n - 1`), or it is inferred from window frames and lag offsets:
`avg(x) over (… rows between n - 1 preceding and current row)` over `lag(close, 1)` reaches back `(n - 1) + (1)` bars.
Either is SQL over the parameters, which is evaluated before any bar is read: a declared one may hold arithmetic and
nothing else.
"""

from collections.abc import Iterator, Mapping, Sequence

from sqlglot import exp
from sqlglot.errors import SqlglotError

from alchemiser_duck.query.catalogue import SqlFile, built_in_functions
from alchemiser_duck.query.definitions import Definition, LintError, read_definition
from alchemiser_duck.query.sql_trees import (
    TIME_COLUMNS,
    column_names,
    parsed,
    resolved_window,
    table_name,
    window_function,
    windowed_functions,
)

_ARITHMETIC = (
    *(exp.Column, exp.Identifier, exp.Literal, exp.Null, exp.Boolean, exp.Paren, exp.Neg, exp.Cast, exp.DataType),
    *(exp.Add, exp.Sub, exp.Mul, exp.Div, exp.IntDiv, exp.Mod, exp.Pow, exp.Sqrt, exp.Ln, exp.Log),
    *(exp.Ceil, exp.Floor, exp.Greatest, exp.Least, exp.Case, exp.If, exp.And, exp.Or, exp.Not),
    *(exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE),
)


def look_back_of(file: SqlFile) -> str | None:
    """Return the declared look-back or the inferred one; None means unbounded.

    Raises:
        RefusedFile: the file declares none and cannot be read.
    """
    return file.look_back or infer_look_back(file)


def infer_look_back(file: SqlFile) -> str | None:
    """Add up frames and lag offsets through nested queries.

    Returns:
        SQL over the parameters; None means that no bound can be seen.

    Raises:
        RefusedFile: the file cannot be read.
    """
    definition = read_definition(file)
    return None if _drops_rows_inside(definition) else _query_depth(definition.body, {})


def bar_counts(file: SqlFile) -> frozenset[str]:
    """Return the parameters that count bars, which may not be negative.

    They reach a frame's bound or a lag's offset.

    Raises:
        RefusedFile: the file cannot be read.
    """
    definition = read_definition(file)
    columns: set[str] = set()
    for window in definition.body.find_all(exp.Window):
        frame = window.args.get("spec")
        bounds = [frame.args.get("start"), frame.args.get("end")] if frame is not None else []
        bounds += [lag.args.get("offset") for lag in window.find_all(exp.Lag)]
        for bound in bounds:
            if isinstance(bound, exp.Expr):
                columns |= column_names(list(bound.find_all(exp.Column)))
    return frozenset(columns & definition.parameters)


def declared_errors(file: SqlFile) -> Iterator[LintError]:
    """Yield why the declared look-back is not arithmetic over the parameters."""
    if file.look_back is None:
        return
    reason = _why_not_arithmetic(file.look_back, file)
    if reason:
        yield LintError(file.path, file.look_back_line, f"look-back {file.look_back!r} {reason}")


def _why_not_arithmetic(text: str, file: SqlFile) -> str | None:
    if "--" in text or "/*" in text or ";" in text:
        return "holds a comment or a semicolon: write an expression of the parameters, for example n - 1"
    try:
        tree = parsed(text)
    except (SqlglotError, RecursionError) as problem:
        first_line = str(problem).splitlines()[0] if str(problem) else "it is nested too deeply"
        return f"cannot be read: {first_line}"
    parameters = {name.lower() for name in file.parameters}
    layer = {name for name in built_in_functions() if name.endswith("_look_back")}
    for node in tree.walk():
        if isinstance(node, exp.Anonymous) and node.name.lower() in layer:
            continue
        if type(node) not in _ARITHMETIC:
            allowed = "numbers, parameters, + - * / //, greatest, least, ceil, floor, ln, log, pow, sqrt, cast"
            return f"holds {node.sql('duckdb')!r}: it may hold {allowed}, {', '.join(sorted(layer))}"
        if isinstance(node, exp.Column) and (node.table or node.name.lower() not in parameters):
            return f"names {node.sql('duckdb')}, which is no parameter; {file.name} takes {file.signature or 'none'}"
    return None


def _drops_rows_inside(definition: Definition) -> bool:
    """Return whether windows reach further because a query below drops rows."""
    outermost = definition.body.unnest()
    for clause in definition.body.find_all(exp.Where, exp.Qualify, exp.Having):
        depends_on_rows = column_names(list(clause.find_all(exp.Column))) - definition.parameters
        if clause.parent is not outermost and depends_on_rows:
            return True
    return False


def _query_depth(query: exp.Expr, local: dict[str, str | None]) -> str | None:
    """Return the look-back of a query over CTEs; None means unbounded."""
    if isinstance(query, exp.Subquery):
        return _query_depth(query.this, local)
    if isinstance(query, exp.SetOperation):
        return _greatest([_query_depth(query.left, local), _query_depth(query.right, local)])
    if not isinstance(query, exp.Select):
        return None
    local = dict(local)
    for cte in query.ctes:
        local[cte.alias_or_name.lower()] = _query_depth(cte.this, local)
    sources = [query.args["from_"].this] if query.args.get("from_") else []
    sources += [join.this for join in query.args.get("joins") or ()]
    below = _greatest([_source_depth(source, local) for source in sources])
    windows = [window for window in query.find_all(exp.Window) if window.find_ancestor(exp.Select) is query]
    depths = [_window_depth(window) for window in windows if not isinstance(window.this, exp.Identifier)]
    calls = [call for call in query.find_all(exp.Anonymous) if call.find_ancestor(exp.Select) is query]
    depths += [_call_depth(call) for call in calls if call.name.lower() in windowed_functions()]
    own = _greatest(depths)
    if below is None or own is None:
        return None
    return own if below == "0" else below if own == "0" else f"({below}) + ({own})"


def _source_depth(source: exp.Expr, local: Mapping[str, str | None]) -> str | None:
    if isinstance(source, exp.Subquery):
        return _query_depth(source, dict(local))
    if not isinstance(source, exp.Table):
        return None
    name = table_name(source)
    if name in local and not isinstance(source.this, exp.Func):
        return local[name]
    return "0" if name in ("query_table", "bars", "bars_split", "bars_raw") else None


def _window_depth(window: exp.Window) -> str | None:
    partition, _, frame = resolved_window(window)
    if column_names(partition) & TIME_COLUMNS:
        return "0"
    function = window_function(window)
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
    """Return the look-back in a function's header for a call's arguments."""
    file = windowed_functions()[call.name.lower()]
    if file.look_back is None:
        return None
    arguments = dict(zip(file.parameters, call.expressions, strict=False))

    def replaced(node: exp.Expr) -> exp.Expr:
        is_parameter = isinstance(node, exp.Column) and node.name in arguments
        return exp.paren(arguments[node.name].copy()) if is_parameter else node

    return parsed(file.look_back).transform(replaced).sql("duckdb")


def _greatest(depths: Sequence[str | None]) -> str | None:
    if None in depths:
        return None
    distinct = list(dict.fromkeys(depth for depth in depths if depth is not None and depth != "0"))
    if not distinct:
        return "0"
    return distinct[0] if len(distinct) == 1 else f"greatest({', '.join(distinct)})"
