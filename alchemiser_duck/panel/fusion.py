"""Reads an indicator as a chain of SELECTs, each row by row over the one before it: what a panel can take apart.

Of a user's own file only what is known here to mean the same in another place is taken apart; anything else, and what
is no chain (it joins, filters or groups), is run as it stands.
"""

from collections.abc import Iterator, Set
from dataclasses import dataclass
from functools import cache

import sqlglot
from sqlglot import exp

from alchemiser_duck.query.catalogue import KEYS, SqlFile, built_in_functions, built_in_table_macros
from alchemiser_duck.query.definitions import read_definition
from alchemiser_duck.query.inliner import Macro, NotInlinable, inlined
from alchemiser_duck.query.sql_trees import resolved_window

SOURCE = "query_table"
"""What the first SELECT of a chain reads: the bars."""

_PLAIN_SELECT = {"kind", "hint", "expressions", "from_", "where", "windows", "with_"}

_UNDERSTOOD = (
    *(exp.Column, exp.Identifier, exp.Literal, exp.Null, exp.Boolean, exp.Paren, exp.Alias, exp.Star),
    *(exp.From, exp.Table, exp.TableAlias, exp.Window, exp.WindowSpec, exp.Order, exp.Ordered, exp.Filter, exp.Where),
    *(exp.Add, exp.Sub, exp.Mul, exp.Div, exp.IntDiv, exp.Mod, exp.Neg, exp.Pow),
    *(exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Is, exp.Between, exp.And, exp.Or, exp.Not),
    *(exp.Case, exp.If, exp.Coalesce, exp.Nullif, exp.Cast, exp.DataType, exp.DataTypeParam),
    *(exp.Abs, exp.Sign, exp.Sqrt, exp.Exp, exp.Ln, exp.Floor, exp.Ceil, exp.Greatest, exp.Least, exp.IsNan),
    *(exp.RowNumber, exp.Lag, exp.Sum, exp.Avg, exp.Count, exp.Max, exp.Min),
    *(exp.Stddev, exp.StddevPop, exp.StddevSamp, exp.Variance, exp.VariancePop),
)
"""What a user's own file may hold to be taken apart: row by row or by window, and written by sqlglot as it was read."""


class NotFusible(Exception):
    """The indicator is more than a chain of row-by-row SELECTs, or not known to be one."""


@dataclass(frozen=True)
class Step:
    """One SELECT of a chain."""

    name: str
    reads: str
    """the step before it, or SOURCE"""
    qualifier: str
    """what it may call that in front of a column"""
    select: exp.Select


@cache
def chain(file: SqlFile, source: str) -> tuple[Step, ...]:
    """The steps of an indicator over a relation, the last one giving its values.

    Raises:
        NotFusible: it is none.
    """
    steps = tuple(_steps(_body(file), frozenset(map(str.lower, file.parameters)), source))
    if not file.is_built_in:
        for step in steps:
            _require_understood(step)
    return steps


def columns(file: SqlFile) -> list[str] | None:
    """The columns that a built-in indicator gives; None means its text does not name them all."""
    selected = _body(file).selects if file.is_built_in else []
    names = [projection.alias_or_name for projection in selected]
    return names if names and "*" not in names else None


@cache
def _body(file: SqlFile) -> exp.Query:
    """The SELECT of a file, with the bodies of the indicators and stages that it calls."""
    try:
        return inlined(_own_body(file), _macro)
    except NotInlinable as problem:
        raise NotFusible from problem


@cache
def _own_body(file: SqlFile) -> exp.Query:
    """The SELECT of a file. Of a user's own, as the linter reads it: statements are told apart by DuckDB itself."""
    parsed = sqlglot.parse_one(file.body, read="duckdb") if file.is_built_in else read_definition(file).body
    body = parsed.unnest()
    assert isinstance(body, exp.Query)  # noqa: S101 (a table macro has nothing else)
    return body


@cache
def _macro(name: str) -> Macro | None:
    file = built_in_table_macros().get(name)
    if file is None:
        return None
    defaults = {name: sqlglot.parse_one(default, read="duckdb") for name, default in file.parameters.items()}
    return defaults, _own_body(file)


def _steps(body: exp.Query, parameters: Set[str], source: str) -> Iterator[Step]:
    if not isinstance(body, exp.Select):
        raise NotFusible
    given: set[str] = set()
    for step in (*body.ctes, body):
        name, select = (step.alias_or_name.lower(), step.this) if isinstance(step, exp.CTE) else ("", step)
        if not isinstance(select, exp.Select) or step.alias_column_names:
            raise NotFusible
        unusual = {key for key, value in select.args.items() if value and key not in _PLAIN_SELECT}
        table = select.args["from_"].this if select.args.get("from_") else None
        if unusual or not isinstance(table, exp.Table) or not _is_plain(table):
            raise NotFusible
        if any(c.name.lower() not in parameters for c in _where_columns(select)):
            raise NotFusible  # rows are left out
        reads = table.name.lower() or SOURCE
        if reads not in given | {SOURCE}:
            if reads != source:
                raise NotFusible
            reads = SOURCE
        yield Step(name, reads, table.alias_or_name.lower(), select)
        given.add(name)


def _is_plain(table: exp.Table) -> bool:
    """Return whether it is read as it is: all its rows, under the names that its columns have."""
    return not {key for key, value in table.args.items() if value} - {"this", "alias"} and not table.alias_column_names


def _where_columns(select: exp.Select) -> Iterator[exp.Column]:
    condition = select.args.get("where")
    yield from condition.find_all(exp.Column) if condition else ()


def _require_understood(step: Step) -> None:
    """Raise NotFusible for what nobody has seen to mean the same in another place."""
    select = step.select
    condition = select.args["where"].this if select.args.get("where") else None
    if condition and not all(map(_is_bound, condition.flatten() if isinstance(condition, exp.And) else [condition])):
        raise NotFusible  # it would leave rows out of the other indicators, too
    for projection in select.expressions:
        if projection.alias_or_name.lower() in KEYS and not _is_key(projection):
            raise NotFusible
    with_ = select.args.get("with_")
    for node in select.walk(prune=lambda node: node is with_):
        if node is not select and node is not with_ and not _is_understood(node, select):
            raise NotFusible


def _is_bound(condition: exp.Expr) -> bool:
    """Whether it is true or an error."""
    return isinstance(condition, exp.Anonymous) and condition.name.lower().startswith("require_")


def _is_understood(node: exp.Expr, select: exp.Select) -> bool:
    match node:
        case exp.Anonymous():
            return node.name.lower() in built_in_functions().keys() | {SOURCE}
        case exp.Star():
            changed = any(node.args.values())
            return not changed and (node.parent is select or isinstance(node.parent, exp.Count))
        case exp.Order():
            return isinstance(node.parent, exp.Window)
        case exp.DataType():
            return bool(node.this != exp.DataType.Type.FLOAT)  # of which DuckDB's sums are doubles
        case exp.Window() if not isinstance(node.this, exp.Identifier):
            partition, _, _ = resolved_window(node, select)
            return [part.name.lower() for part in partition] == ["symbol"]  # not all symbols are read
        case exp.AggFunc() | exp.RowNumber() | exp.Lag():
            return isinstance(node, _UNDERSTOOD) and node.find_ancestor(exp.Window) is not None
    return isinstance(node, _UNDERSTOOD)


def _is_key(projection: exp.Expr) -> bool:
    column = projection.unalias()
    return isinstance(column, exp.Column) and column.name.lower() == projection.alias_or_name.lower()
