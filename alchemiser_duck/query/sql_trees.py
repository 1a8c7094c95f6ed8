"""Read sqlglot's trees: names, windows and frames, for the linter, look-backs and panels alike.

Everything that hangs on how sqlglot names the parts of a tree, and that two modules need, stands here. For example
`sum(close) over (w rows 4 preceding)` with `window w as (partition by symbol)` is resolved to partition `[symbol]`,
no order, and the frame of five rows.
"""

import re
from collections.abc import Mapping
from functools import cache

import sqlglot
import sqlglot.dialects.duckdb  # sqlglot would import it within the first query
from sqlglot import exp

from alchemiser_duck.query.catalogue import SqlFile, built_in_functions

TIME_COLUMNS = frozenset({"timestamp", "date"})


def parsed(text: str) -> exp.Expr:
    """Parse one expression or SELECT.

    Raises:
        SqlglotError: the text is not one.
    """
    return sqlglot.parse_one(text, read="duckdb")


def function_name(function: exp.Expr) -> str:
    """Return DuckDB's name of a function; empty for operators."""
    if isinstance(function, exp.Anonymous):
        return str(function.name).lower()
    name = re.match(r"\w+", function.sql("duckdb"))
    return name.group().lower() if name else ""


def table_name(table: exp.Table) -> str:
    """Return the name of a relation or table function, in lower case."""
    return function_name(table.this) if isinstance(table.this, exp.Func) else table.name.lower()


def is_column(node: exp.Expr | None, *names: str) -> bool:
    """Return whether the node is a column of one of these names."""
    return isinstance(node, exp.Column) and node.name.lower() in names


def column_names(nodes: list[exp.Expr]) -> set[str]:
    """Return the names of those nodes that are columns, in lower case."""
    return {node.name.lower() for node in nodes if isinstance(node, exp.Column)}


def window_function(window: exp.Window) -> exp.Expr:
    """Return a window's function, without FILTER and IGNORE NULLS."""
    function: exp.Expr = window.this
    while isinstance(function, exp.IgnoreNulls | exp.RespectNulls | exp.Filter):
        function = function.this
    return function


def is_over_window(function: exp.Expr) -> bool:
    """Return whether the function is computed over a window."""
    parent = function.parent
    while isinstance(parent, exp.IgnoreNulls | exp.RespectNulls | exp.Filter | exp.WithinGroup):
        parent = parent.parent
    return isinstance(parent, exp.Window)


def resolved_window(
    window: exp.Window, select: exp.Expr | None = None
) -> tuple[list[exp.Expr], list[exp.Expr], exp.Expr | None]:
    """Return a window's partition, order and frame, through the WINDOW clause.

    Args:
        select: the SELECT whose WINDOW clause is searched; None means the one around the window.
    """
    partition = list(window.args.get("partition_by") or [])
    order = window.args["order"].expressions if window.args.get("order") else []
    frame = window.args.get("spec")
    name = window.args.get("alias")
    select = select or window.find_ancestor(exp.Select)
    if name is not None and select is not None:
        for named in select.args.get("windows") or []:
            if named.this.name.lower() == name.name.lower():
                base_partition, base_order, base_frame = resolved_window(named, select)
                return partition or base_partition, order or base_order, frame or base_frame
    return partition, order, frame


@cache
def windowed_functions() -> Mapping[str, SqlFile]:
    """Return the layer's functions that hold a window, directly or not."""
    functions = built_in_functions()
    windowed = {name for name, file in functions.items() if " over (" in file.text}
    while more := {
        name
        for name, file in functions.items()
        if name not in windowed and any(f"{other}(" in file.text for other in windowed)
    }:
        windowed |= more
    return {name: functions[name] for name in windowed}


def is_windowed(node: exp.Expr) -> bool:
    """Return whether it is a window or a function that holds one."""
    return isinstance(node, exp.Window) or (
        isinstance(node, exp.Anonymous) and node.name.lower() in windowed_functions()
    )
