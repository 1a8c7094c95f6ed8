"""Turn windows into aggregates where only the last row is needed.

That is one sum instead of one per row. Rows carry how many rows of their symbol come after them, so a frame that ends
on the last row is a filter: `avg(x) over (… rows 4 preceding)` is `avg(x) filter (rows_after <= 4)`, and `lag(x, 3)` is
`first(x) filter (rows_after = 3)`.
"""

from collections.abc import Mapping
from functools import cache

from sqlglot import exp

from alchemiser_duck.query.catalogue import AT_THE_END, SqlFile, built_in_functions
from alchemiser_duck.query.sql_trees import function_name, is_windowed, parsed

_ORDER_FREE = frozenset(
    {"avg", "count", "max", "median", "min", "sum"}
    | {"corr", "covar_pop", "covar_samp", "kurtosis", "regr_intercept", "regr_r2", "regr_slope", "skewness"}
    | {"stddev", "stddev_pop", "stddev_samp", "var_pop", "var_samp", "variance"}
)
"""Aggregates that do not depend on the order of the rows."""
_FORMULA_NODES = (
    *(exp.Column, exp.Identifier, exp.Literal, exp.Paren, exp.Cast, exp.DataType, exp.Case, exp.If, exp.Coalesce),
    *(exp.Add, exp.Sub, exp.Mul, exp.Neg, exp.Abs, exp.Not, exp.IsNan, exp.GT, exp.GTE, exp.LT, exp.LTE),
)
"""Of numbers they always make a number, a truth or null."""


def at_last_row(window: exp.Expr, rows_after: str, columns: Mapping[str, exp.Expr]) -> exp.Expr | None:
    """Return an aggregate for the window's last value; None means none exists.

    Args:
        window: a window, or a call of one of the layer's functions that holds one.
        rows_after: the column with how many rows of the symbol come after.
        columns: the expressions of the columns that it reads, where they are not the source's own.
    """
    if isinstance(window, exp.Anonymous):
        if window.name.lower() == "decayed_sum":
            arguments = decayed_sum_arguments(window, columns)
            if arguments is None:
                return None
            return exp.Anonymous(this=AT_THE_END, expressions=[*arguments, exp.column(rows_after)])
        return _expression_at_last_row(expanded(window), rows_after, columns)
    if not isinstance(window, exp.Window) or not runs_by_symbol_in_time(window):
        return None
    function, condition = function_and_filter(window)
    if isinstance(function, exp.RowNumber):
        return exp.Count(this=exp.Star())
    if isinstance(function, exp.Lag):
        offset = function.args.get("offset") or exp.Literal.number(1)
        if function.args.get("default") or condition or offset.find(exp.Column):
            return None
        return _filtered(exp.Anonymous(this="first", expressions=[function.this.copy()]), f"{rows_after} = {offset}")
    if function_name(function) not in _ORDER_FREE:
        return None
    conditions = _in_last_frame(window.args.get("spec"), rows_after)
    if conditions is None:
        return None
    return _filtered(function.copy(), *conditions, *([condition.sql("duckdb")] if condition else []))


def function_and_filter(window: exp.Window) -> tuple[exp.Expr, exp.Expr | None]:
    """Return a window's function and its FILTER condition; None means no FILTER."""
    function = window.this
    return (function.this, function.expression.this) if isinstance(function, exp.Filter) else (function, None)


def expanded(call: exp.Anonymous) -> exp.Expr:
    """Return a function's body with the call's arguments for its parameters."""
    file = built_in_functions()[call.name.lower()]
    arguments = dict(zip(map(str.lower, file.parameters), call.expressions, strict=True))

    def replaced(node: exp.Expr) -> exp.Expr:
        if isinstance(node, exp.Column) and not node.table and node.name.lower() in arguments:
            return exp.paren(arguments[node.name.lower()].copy())
        return node

    return _body(file).transform(replaced).unnest()


def is_formula(call: exp.Anonymous) -> bool:
    """Return whether one of the layer's functions gives a value for any numbers of one row."""
    file = built_in_functions().get(call.name.lower())
    return file is not None and _cannot_fail(file)


@cache
def _body(file: SqlFile) -> exp.Expr:
    return parsed(file.body)


@cache
def _cannot_fail(file: SqlFile) -> bool:
    return all(
        is_formula(node) if isinstance(node, exp.Anonymous) else isinstance(node, _FORMULA_NODES)
        for node in _body(file).walk()
    )


def _expression_at_last_row(value: exp.Expr, rows_after: str, columns: Mapping[str, exp.Expr]) -> exp.Expr | None:
    """Return the expression with aggregates for its windows; None means none exists."""
    aggregates: list[exp.Expr | None] = []

    def set_apart(node: exp.Expr) -> exp.Expr:
        if not is_windowed(node):
            return node
        aggregates.append(at_last_row(node, rows_after, columns))
        return exp.Placeholder(this=str(len(aggregates) - 1))  # the columns that an aggregate reads are its own affair

    rest = value.transform(set_apart)
    if any(aggregate is None for aggregate in aggregates) or rest.find(exp.Column):
        return None
    return rest.transform(lambda node: aggregates[int(node.name)] if isinstance(node, exp.Placeholder) else node)


def decayed_sum_arguments(call: exp.Anonymous, columns: Mapping[str, exp.Expr]) -> list[exp.Expr] | None:
    """Return x, bar_number, seed_bars and q; None means unknown weights."""
    x, weights, q = (argument.unnest() for argument in call.expressions)
    source = columns.get(weights.name) if isinstance(weights, exp.Column) else weights
    while isinstance(source, exp.Anonymous) and source.name.lower() in built_in_functions().keys() - {"decay_weights"}:
        source = expanded(source)
    if not isinstance(source, exp.Anonymous) or source.name.lower() != "decay_weights":
        return None
    bar_number, seed_bars, _ = source.expressions
    return [argument.copy() for argument in (x, bar_number, seed_bars, q)]


def runs_by_symbol_in_time(window: exp.Window) -> bool:
    """Return whether it runs by symbol, oldest row first."""
    partition = [part.name.lower() for part in window.args.get("partition_by") or []]
    order = window.args["order"].expressions if window.args.get("order") else []
    is_time = len(order) == 1 and not order[0].args.get("desc") and order[0].this.name.lower() == "timestamp"
    return partition == ["symbol"] and is_time


def frame_bounds(spec: exp.Expr | None) -> tuple[exp.Expr | None, exp.Expr | None] | None:
    """Return how many rows back a frame begins and ends.

    `rows between 4 preceding and current row` is (4, None). A begin of None means the first row, an end of None the row
    itself. None instead of both means that the frame is not counted in rows, or reaches into later ones.
    """
    if spec is None:
        return None, None
    part = {name: value.upper() if isinstance(value, str) else value for name, value in spec.args.items()}
    start, end = part["start"], part.get("end")
    if part["kind"] != "ROWS" or part.get("exclude") or part["start_side"] != "PRECEDING":
        return None
    if not isinstance(start, exp.Expr) and start != "UNBOUNDED":
        return None
    if part["end_side"] != "PRECEDING" if isinstance(end, exp.Expr) else end not in ("CURRENT ROW", None):
        return None
    return start if isinstance(start, exp.Expr) else None, end if isinstance(end, exp.Expr) else None


def _in_last_frame(spec: exp.Expr | None, rows_after: str) -> list[str] | None:
    """Return conditions on the last frame's rows; None means uncounted rows."""
    bounds = frame_bounds(spec)
    if bounds is None or any(bound is not None and bound.find(exp.Column) for bound in bounds):
        return None
    sides = zip(("<=", ">="), bounds, strict=True)
    return [f"{rows_after} {sign} ({bound.sql('duckdb')})" for sign, bound in sides if bound is not None]


def _filtered(function: exp.Expr, *conditions: str) -> exp.Expr:
    if not conditions:
        return function
    condition = parsed(" and ".join(f"({condition})" for condition in conditions))
    return exp.Filter(this=function, expression=exp.Where(this=condition))
