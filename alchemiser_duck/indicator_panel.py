"""A panel: several indicators over the same bars as one query that scans, sorts and windows once.

Most indicators are chains of row-by-row SELECTs with windows. `panel` reads those chains, gives every expression a
column and every column a level (how many windows lie below it), and writes one SELECT per level: what two indicators
both need is computed once, and all windows of a level share one sort. An indicator that is more than such a chain (it
joins, filters or groups), and every file of a user's own, is run as it stands and joined by symbol and timestamp.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

import sqlglot
from sqlglot import exp

from alchemiser_duck.sql_catalog import IndicatorCall, SqlFile, built_in_files
from alchemiser_duck.sql_linter import Definition, read, resolved_window, windowed_functions
from alchemiser_duck.sql_text import identifier, where

KEYS = ("symbol", "timestamp")
_PLAIN_SELECT = {"kind", "hint", "expressions", "from_", "where", "windows", "with_"}


@dataclass(frozen=True)
class PanelEntry:
    """One indicator of a panel."""

    call: IndicatorCall
    columns: Mapping[str, str]
    """column of the indicator: its name in the panel"""


def panel(entries: Sequence[PanelEntry], source: str, conditions: Sequence[str]) -> str:
    """The SELECT of symbol, timestamp and every entry's columns, one row per bar of the source.

    Args:
        conditions: on the symbol, which is what leaves histories whole.
    """
    levels = _Levels()
    columns: list[str] = []
    joins: list[str] = []
    for entry in entries:
        try:
            chosen = levels.add(entry)
        except _NotAChainError:
            alias = f"joined_{len(joins)}"
            rows = f"from {entry.call.sql(source)}{where(conditions)}"
            joins.append(f"left join ({rows}) as {alias} using (symbol, timestamp)")
            chosen = [(f"{alias}.{identifier(column)}", label) for column, label in entry.columns.items()]
        columns += [f"{column} as {identifier(label)}" for column, label in chosen]
    steps = levels.steps(source, conditions)
    last = levels.last
    listed = ",\n    ".join([*(f"{last}.{key}" for key in KEYS), *columns])
    return "\n".join(["with", steps, f"select\n    {listed}", f"from {last}", *joins])


class _NotAChainError(Exception):
    """The indicator is more than a chain of row-by-row SELECTs."""


@dataclass
class _Levels:
    """Columns by name: their expression and the level they are computed on; equal expressions are one column."""

    expressions: dict[str, exp.Expr] = field(default_factory=dict)
    level_of: dict[str, tuple[int, int]] = field(default_factory=dict)
    """(windows below, steps since): windows are computed on step 0, what is made of them on later steps"""
    guards: dict[str, None] = field(default_factory=dict)
    wanted: set[str] = field(default_factory=set)
    _names: dict[str, str] = field(default_factory=dict)
    last: str = "bars_read"
    """the name of the last step"""

    def add(self, entry: PanelEntry) -> list[tuple[str, str]]:
        """Take in an indicator; returns (column, name in the panel) of its values.

        Raises:
            _NotAChainError: the indicator is not one to be taken apart.
        """
        if entry.call.file not in built_in_files():
            raise _NotAChainError
        definition = _definition(entry.call.file)
        arguments = {
            name.lower(): sqlglot.parse_one(entry.call.arguments.get(name, default), read="duckdb")
            for name, default in entry.call.file.parameters.items()
        }
        chain = list(_chain(definition))
        scopes: dict[str, dict[str, exp.Expr] | None] = {"query_table": None}
        for name, reads, select in chain:
            scopes[name] = self._select(select, scopes[reads], arguments)
        values = scopes[chain[-1][0]] or {}
        self.wanted |= {values[column].name for column in entry.columns}
        return [(values[column].name, label) for column, label in entry.columns.items()]

    def _select(
        self, select: exp.Select, scope: dict[str, exp.Expr] | None, arguments: Mapping[str, exp.Expr]
    ) -> dict[str, exp.Expr]:
        """The columns a SELECT gives, each as a column of ours. scope None: it reads bars."""
        if guard := select.args.get("where"):
            self.guards.setdefault(_substituted(guard.this, None, arguments, select).sql("duckdb"))
        given: dict[str, exp.Expr] = {}
        for projection in select.expressions:
            if isinstance(projection, exp.Star):
                given |= scope or {}
                continue
            value = _substituted(projection.unalias(), scope, arguments, select)
            given[projection.alias_or_name.lower()] = self._column(self._windows_apart(value))
        return given

    def _windows_apart(self, value: exp.Expr) -> exp.Expr:
        """The expression with every window in it replaced by a column of its own."""

        def apart(node: exp.Expr) -> exp.Expr:
            return self._column(node, windowed=True) if _is_window(node) else node

        return value.transform(apart)

    def _column(self, value: exp.Expr, *, windowed: bool = False) -> exp.Expr:
        if isinstance(value, exp.Column) and not value.table:
            return value
        text = value.sql("duckdb")
        if text not in self._names:
            name = self._names[text] = f"c{len(self._names) + 1}"
            below = [self.level_of.get(read, (0, 0)) for read in _columns_in(value)]
            depth, step = max(below, default=(0, 0))
            self.level_of[name] = (depth + 1, 0) if windowed else (depth, step + 1)
            self.expressions[name] = value
        return exp.column(self._names[text])

    def steps(self, source: str, conditions: Sequence[str]) -> str:
        """The CTEs that compute the wanted columns from the source's bars, a level each."""
        needed = set(self.wanted)
        for name in sorted(self.expressions, key=self.level_of.__getitem__, reverse=True):
            if name in needed:
                needed |= _columns_in(self.expressions[name])
        computed = [name for name in self.expressions if name in needed]
        read = sorted(needed - set(computed) - set(KEYS))
        filtered = where([*conditions, *self.guards])
        ctes = [f"bars_read as (\n    select {', '.join((*KEYS, *read))}\n    from {identifier(source)}{filtered}\n)"]
        for level in sorted({self.level_of[name] for name in computed}):
            new = [name for name in computed if self.level_of[name] == level]
            later = [name for name in computed if self.level_of[name] > level]
            used = self.wanted.union(*(_columns_in(self.expressions[name]) for name in later)) - set(KEYS)
            kept = sorted(name for name in used if self.level_of.get(name, (0, 0)) < level)
            listed = ",\n        ".join(
                [*KEYS, *kept, *(f"{self.expressions[name].sql('duckdb')} as {name}" for name in new)]
            )
            step = "windows_{}_{}".format(*level)
            ctes.append(f"{step} as (\n    select\n        {listed}\n    from {self.last}\n)")
            self.last = step
        return ",\n".join(ctes)


def _chain(definition: Definition) -> Iterator[tuple[str, str, exp.Select]]:
    """(name, what it reads, SELECT) of every step; raises _NotAChainError where a step is more than row by row."""
    body = definition.body.unnest()
    if not isinstance(body, exp.Select):
        raise _NotAChainError
    steps = [(cte.alias_or_name.lower(), cte.this) for cte in body.args["with_"].expressions] if body.ctes else []
    for name, select in (*steps, ("", body)):
        if not isinstance(select, exp.Select):
            raise _NotAChainError
        unusual = {key for key, value in select.args.items() if value and key not in _PLAIN_SELECT}
        table = select.args["from_"].this if select.args.get("from_") else None
        if unusual or not isinstance(table, exp.Table):
            raise _NotAChainError
        if any(c.name.lower() not in definition.parameters for c in _where_columns(select)):
            raise _NotAChainError  # rows are left out
        reads = table.name.lower() or "query_table"
        yield name, reads, select


def _where_columns(select: exp.Select) -> Iterable[exp.Column]:
    condition = select.args.get("where")
    return condition.find_all(exp.Column) if condition else ()


def _substituted(
    value: exp.Expr, scope: Mapping[str, exp.Expr] | None, arguments: Mapping[str, exp.Expr], select: exp.Select
) -> exp.Expr:
    """The expression with arguments for parameters, our columns for the scope's, and named windows written out."""

    def replaced(node: exp.Expr) -> exp.Expr:
        if isinstance(node, exp.Window) and node.args.get("alias") is not None:
            partition, order, frame = resolved_window(node, select)
            return exp.Window(
                this=node.this.transform(replaced),
                partition_by=[part.transform(replaced) for part in partition],
                order=exp.Order(expressions=[part.transform(replaced) for part in order]),
                spec=frame.transform(replaced) if frame is not None else None,
            )
        if not isinstance(node, exp.Column):
            return node
        if node.table:  # a field of a struct
            owner = scope[node.table.lower()] if scope is not None else exp.column(node.table)
            return exp.column(node.name, table=owner.name)
        name = node.name.lower()
        if name in arguments:
            return exp.paren(arguments[name].copy()) if arguments[name].find(exp.Neg) else arguments[name].copy()
        return scope[name].copy() if scope is not None else exp.column(name)

    return value.transform(replaced)


def _columns_in(value: exp.Expr) -> set[str]:
    return {column.table or column.name for column in value.find_all(exp.Column)}


def _is_window(node: exp.Expr) -> bool:
    if isinstance(node, exp.Window):
        return True
    return isinstance(node, exp.Anonymous) and node.name.lower() in windowed_functions()


@cache
def _definition(file: SqlFile) -> Definition:
    return read(file)
