"""Put the body of a table macro where it is called, so that one SELECT says everything.

`with averaged as (select … from directional_moves(n, source := source)) select …` becomes a chain of CTEs in which
`directional_moves_1_numbered`, … and `directional_moves_1` stand before `averaged`. DuckDB runs the macros as they are
written; this text is for whoever must see through a call: panels, which compute common parts once, and other engines.
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import count
from typing import TypeAlias

from sqlglot import exp

Macro: TypeAlias = tuple[Mapping[str, exp.Expr], exp.Query]
"""A table macro: its parameters with their defaults, in order, and its body."""

MOST_CALLS = 100
"""Calls that are put in one body: more of them call each other in a circle."""


class NotInlinable(Exception):
    """A call does not fit the macro's parameters, or calls never end."""


def inlined(body: exp.Query, macro: Callable[[str], Macro | None]) -> exp.Query:
    """Return a body with every call of a known table macro replaced by a CTE of what it gives.

    Args:
        body: it is left as it is; the answer is a copy where anything was replaced.
        macro: gives a macro by its name in lower case; None leaves the call where it is.

    Raises:
        NotInlinable: a call has an argument too many, or one that the macro does not know.
    """
    if next(_calls(body, macro), None) is None:
        return body
    body, numbers = body.copy(), count(1)
    while call := next(_calls(body, macro), None):
        number = next(numbers)
        if number > MOST_CALLS:
            raise NotInlinable(f"more than {MOST_CALLS} calls: table macros call each other in a circle")
        _replace(body, *call, number)
    return body


def _calls(body: exp.Query, macro: Callable[[str], Macro | None]) -> Iterator[tuple[exp.Table, Macro]]:
    for table in body.find_all(exp.Table):
        if isinstance(table.this, exp.Anonymous) and (known := macro(table.this.name.lower())):
            yield table, known


def _replace(body: exp.Query, table: exp.Table, macro: Macro, number: int) -> None:
    parameters, inner = macro
    inner = _substituted(inner.copy(), _arguments(table.this, parameters))
    prefix = f"{table.this.name.lower()}_{number}"
    ctes = _renamed(inner, prefix)
    if inner.args.get("with_"):
        inner.set("with_", None)
    ctes.append(exp.CTE(this=inner, alias=exp.TableAlias(this=exp.to_identifier(prefix))))
    around = _cte_around(body, table)
    with_ = body.args.get("with_")
    if with_ is None:
        with_ = exp.With(expressions=[])
        body.set("with_", with_)
    place = with_.expressions.index(around) if around is not None else len(with_.expressions)
    with_.set("expressions", [*with_.expressions[:place], *ctes, *with_.expressions[place:]])
    table.set("this", exp.to_identifier(prefix))


def _arguments(call: exp.Anonymous, parameters: Mapping[str, exp.Expr]) -> dict[str, exp.Expr]:
    """Bind a call's arguments to the macro's parameters, by position and by name."""
    bound: dict[str, exp.Expr] = {}
    names = list(parameters)
    for place, argument in enumerate(call.expressions):
        if isinstance(argument, exp.PropertyEQ):
            name, value = argument.this.name.lower(), argument.expression
        elif place < len(names):
            name, value = names[place], argument
        else:
            raise NotInlinable(f"{call.name}: {len(names)} parameters, and more arguments")
        if name not in parameters or name in bound:
            raise NotInlinable(f"{call.name}: no parameter {name}, or twice")
        bound[name] = value
    return {name: bound.get(name, default) for name, default in parameters.items()}


def _substituted(inner: exp.Query, arguments: Mapping[str, exp.Expr]) -> exp.Query:
    """Put arguments for parameters; DuckDB, too, prefers a parameter to a column of its name."""

    def replaced(node: exp.Expr) -> exp.Expr:
        if not isinstance(node, exp.Column) or node.table or node.name.lower() not in arguments:
            return node
        value = arguments[node.name.lower()].copy()
        return value if isinstance(value, exp.Column | exp.Literal | exp.Paren) else exp.paren(value)

    tree = inner.transform(replaced)
    for table in list(tree.find_all(exp.Table)):
        if isinstance(table.this, exp.Anonymous) and table.this.name.lower() == "query_table":
            source = table.this.expressions[0] if table.this.expressions else None
            if isinstance(source, exp.Literal) and source.is_string:
                table.set("this", exp.to_identifier(source.name))
    assert isinstance(tree, exp.Query)  # noqa: S101 (a SELECT is no column)
    return tree


def _renamed(inner: exp.Query, prefix: str) -> list[exp.CTE]:
    """Take the CTEs out of a body, under names that no other call has."""
    ctes: list[exp.CTE] = list(inner.ctes)
    names = {cte.alias_or_name.lower(): f"{prefix}_{cte.alias_or_name.lower()}" for cte in ctes}
    for table in inner.find_all(exp.Table):
        if not isinstance(table.this, exp.Identifier) or table.name.lower() not in names:
            continue
        if not table.args.get("alias"):
            table.set("alias", exp.TableAlias(this=exp.to_identifier(table.name)))
        table.set("this", exp.to_identifier(names[table.name.lower()]))
    for cte in ctes:
        cte.set("alias", exp.TableAlias(this=exp.to_identifier(names[cte.alias_or_name.lower()])))
    return ctes


def _cte_around(body: exp.Query, table: exp.Table) -> exp.CTE | None:
    """Find the body's own CTE that holds a table."""
    with_ = body.args.get("with_")
    node: exp.Expr | None = table
    while node is not None:
        if isinstance(node, exp.CTE) and node.parent is with_:
            return node
        node = node.parent
    return None
