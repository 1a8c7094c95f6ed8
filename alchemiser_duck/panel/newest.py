"""A window's value on the last row of its partition, as an aggregate: one sum instead of one per row.

The rows carry how many rows of the partition come after them; a frame that ends on the last row is then a filter.
"""

from collections.abc import Mapping
from functools import cache

import sqlglot
from sqlglot import exp

from alchemiser_duck.query.catalogue import AT_THE_END, SqlFile, built_in_functions
from alchemiser_duck.query.sql_trees import function_name, windowed_functions

_IN_ANY_ORDER = frozenset(
    {"avg", "count", "max", "median", "min", "sum"}
    | {"corr", "covar_pop", "covar_samp", "kurtosis", "regr_intercept", "regr_r2", "regr_slope", "skewness"}
    | {"stddev", "stddev_pop", "stddev_samp", "var_pop", "var_samp", "variance"}
)
"""Aggregates that do not depend on the order of the rows."""


def at_last_row(window: exp.Expr, rows_after: str, columns: Mapping[str, exp.Expr]) -> exp.Expr | None:
    """The aggregate that gives the window's value on the last row by timestamp of each symbol; None: there is none.

    Args:
        window: a window, or a call of one of the layer's functions that has one inside.
        rows_after: the column with how many rows come after.
        columns: what the columns are that it reads, where they are more than the source's own.
    """
    if isinstance(window, exp.Anonymous):
        if window.name.lower() == "decayed_sum":
            return _decayed_sum(window, rows_after, columns)
        return _each_at_last_row(expanded(window), rows_after, columns)
    if not isinstance(window, exp.Window) or not runs_by_symbol_in_time(window):
        return None
    function, conditions = window.this, []
    if isinstance(function, exp.Filter):
        function, conditions = function.this, [function.expression.this]
    if isinstance(function, exp.RowNumber):
        return exp.Count(this=exp.Star())
    if isinstance(function, exp.Lag):
        offset = function.args.get("offset") or exp.Literal.number(1)
        if function.args.get("default") or conditions or offset.find(exp.Column):
            return None
        return _filtered(exp.Anonymous(this="first", expressions=[function.this.copy()]), f"{rows_after} = {offset}")
    if function_name(function) not in _IN_ANY_ORDER:
        return None
    frame = _frame(window.args.get("spec"), rows_after)
    return None if frame is None else _filtered(function.copy(), *frame, *(one.sql("duckdb") for one in conditions))


def expanded(call: exp.Anonymous) -> exp.Expr:
    """The body of one of the layer's functions, with the call's arguments for its parameters."""
    file = built_in_functions()[call.name.lower()]
    parameters, body = [name.lower() for name in file.parameters], _body(file)
    given = dict(zip(parameters, call.expressions, strict=True))

    def replaced(node: exp.Expr) -> exp.Expr:
        if isinstance(node, exp.Column) and not node.table and node.name.lower() in given:
            return exp.paren(given[node.name.lower()].copy())
        return node

    return body.transform(replaced).unnest()


@cache
def _body(file: SqlFile) -> exp.Expr:
    return sqlglot.parse_one(file.body, read="duckdb")


def _each_at_last_row(value: exp.Expr, rows_after: str, columns: Mapping[str, exp.Expr]) -> exp.Expr | None:
    """An expression over windows, with an aggregate for each of them; the rest of it must not depend on the row."""
    inside: list[exp.Expr] = []

    def replaced(node: exp.Expr) -> exp.Expr:
        if not is_windowed(node):
            return node
        aggregate = at_last_row(node, rows_after, columns)
        inside.append(aggregate or exp.null())
        # a stand-in: what an aggregate reads is its own affair
        return exp.Placeholder(this=str(len(inside) - 1)) if aggregate else exp.null()

    replaced_value = value.transform(replaced)
    if any(isinstance(one, exp.Null) for one in inside) or replaced_value.find(exp.Column):
        return None
    return replaced_value.transform(lambda node: inside[int(node.name)] if isinstance(node, exp.Placeholder) else node)


def is_windowed(node: exp.Expr) -> bool:
    """Whether it is a window, or a call of one of the layer's functions that has one inside."""
    return isinstance(node, exp.Window) or (
        isinstance(node, exp.Anonymous) and node.name.lower() in windowed_functions()
    )


def decayed_sum_arguments(call: exp.Anonymous, columns: Mapping[str, exp.Expr]) -> list[exp.Expr] | None:
    """x, bar_number, seed_bars and q of a call of decayed_sum; None: nobody says how its weights are made."""
    x, weights, q = (_unwrapped(argument) for argument in call.expressions)
    made = columns.get(weights.name) if isinstance(weights, exp.Column) else weights
    while isinstance(made, exp.Anonymous) and made.name.lower() in built_in_functions().keys() - {"decay_weights"}:
        made = expanded(made)
    if not isinstance(made, exp.Anonymous) or made.name.lower() != "decay_weights":
        return None
    bar_number, seed_bars, _ = made.expressions
    return [argument.copy() for argument in (x, bar_number, seed_bars, q)]


def _decayed_sum(call: exp.Anonymous, rows_after: str, columns: Mapping[str, exp.Expr]) -> exp.Expr | None:
    arguments = decayed_sum_arguments(call, columns)
    if arguments is None:
        return None
    return exp.Anonymous(this=AT_THE_END, expressions=[*arguments, exp.column(rows_after)])


def _unwrapped(value: exp.Expr) -> exp.Expr:
    return value.unnest() if isinstance(value, exp.Paren) else value


def runs_by_symbol_in_time(window: exp.Window) -> bool:
    """Whether it is partitioned by symbol and ordered by timestamp, oldest first."""
    partition = [part.name.lower() for part in window.args.get("partition_by") or []]
    order = window.args["order"].expressions if window.args.get("order") else []
    is_time = len(order) == 1 and not order[0].args.get("desc") and order[0].this.name.lower() == "timestamp"
    return partition == ["symbol"] and is_time


def frame_bounds(spec: exp.Expr | None) -> tuple[exp.Expr | None, exp.Expr | None] | None:
    """How many rows back a frame begins (None: with the first row) and ends (None: on the row itself).

    None instead of both: it is not counted in rows, or reaches into later ones.
    """
    if spec is None:
        return None, None
    written = {name: value.upper() if isinstance(value, str) else value for name, value in spec.args.items()}
    start, end = written["start"], written.get("end")
    if written["kind"] != "ROWS" or written.get("exclude") or written["start_side"] != "PRECEDING":
        return None
    if start != "UNBOUNDED" and not isinstance(start, exp.Expr):
        return None
    if isinstance(end, exp.Expr) and written["end_side"] != "PRECEDING":
        return None
    if not isinstance(end, exp.Expr) and end not in ("CURRENT ROW", None):
        return None
    return start if isinstance(start, exp.Expr) else None, end if isinstance(end, exp.Expr) else None


def _frame(spec: exp.Expr | None, rows_after: str) -> list[str] | None:
    """The conditions on the rows that are in the last row's frame; None: it is not a frame to be counted in rows."""
    bounds = frame_bounds(spec)
    if bounds is None or any(bound is not None and bound.find(exp.Column) for bound in bounds):
        return None
    start, end = bounds
    conditions = [] if start is None else [f"{rows_after} <= {_wrapped(start)}"]
    return conditions if end is None else [*conditions, f"{rows_after} >= {_wrapped(end)}"]


def _wrapped(bound: exp.Expr) -> str:
    return f"({bound.sql('duckdb')})"


def _filtered(function: exp.Expr, *conditions: str) -> exp.Expr:
    if not conditions:
        return function
    condition = sqlglot.parse_one(" and ".join(f"({one})" for one in conditions), read="duckdb")
    return exp.Filter(this=function, expression=exp.Where(this=condition))
