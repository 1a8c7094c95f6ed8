"""A panel: several indicators over the same bars as one query that scans, sorts and windows once.

Most indicators are chains of row-by-row SELECTs with windows. `panel` reads those chains, gives every expression a
column and every column a level (how many windows lie below it), and writes SELECTs level by level (see panel_steps):
what two indicators both need is computed once, and all windows of a level share one sort. An indicator that is more
than such a chain is run as it stands and joined by symbol and timestamp.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field

import sqlglot
from sqlglot import exp

from alchemiser_duck.panel.execution import BEFORE, LANES
from alchemiser_duck.panel.explanation import ColumnPlan, Executor
from alchemiser_duck.panel.fusion import SOURCE, NotFusible, Step, chain
from alchemiser_duck.panel.lanes import NotInLanes, WindowLanes
from alchemiser_duck.panel.levels import Column, ctes
from alchemiser_duck.panel.newest import at_last_row
from alchemiser_duck.panel.nullability import Nullability
from alchemiser_duck.panel.passes import Pass, bars_before, passes_of
from alchemiser_duck.query.catalogue import BARS_BEFORE, KEYS, PRICES, PanelEntry
from alchemiser_duck.query.literals import identifier, literal, where
from alchemiser_duck.query.sql_trees import is_windowed, resolved_window

_BARS_AFTER = """
    count(*) over (partition by symbol order by timestamp rows between unbounded preceding and unbounded following)
    - row_number() over (partition by symbol order by timestamp)
"""

BARS_AFTER = "bars_after"
"""The column with how many bars of its symbol come after a bar, where several passes share it."""

_SEPARATOR = "\x1f"
_ASKED = """symbols_asked as (
    -- numbers are partitioned, sorted and grouped faster than names, and a text is read faster than a list of names
    select unnest(names) as name, generate_subscripts(names, 1)::integer as symbol
    from (select string_split({names}, {separator}) as names)
)"""


def panel(entries: Sequence[PanelEntry], source: str, conditions: Sequence[str]) -> str:
    """The SELECT of symbol, timestamp and every entry's columns, one row per bar of the source.

    Args:
        conditions: on the symbol, which is what leaves histories whole.
    """
    levels = _Levels()
    values, joins = _taken_in(levels, entries, source, conditions)
    steps = levels.every_row(source, conditions)
    return _selected(levels, [steps], KEYS, values, joins)


def newest_panel(
    entries: Sequence[PanelEntry], source: str, conditions: Sequence[str], symbols: Sequence[str] | None = None
) -> str:
    """The SELECT of each symbol's last row of `panel`; after timestamp comes `bars_before`, the bars before it.

    No frame is slid where an aggregate gives the same value, and a pass reads no more than the last bars that it needs.
    Where those do not decide a value, `bars_before` is UNSETTLED; of entries without a look-back all bars are read.

    Args:
        symbols: those that the conditions let through; None means they are not known.
    """
    passes: list[_TakenPass] = []
    joins: list[str] = []
    for part in passes_of(entries, source):
        levels = _Levels()
        values, more = _taken_in(levels, part.entries, source, conditions, len(joins))
        passes.append(_TakenPass(levels, values, part))
        joins += more
    settles = any(entry.remembers and entry.look_back is not None for entry in entries)
    asked = list(dict.fromkeys(symbols or ()))
    is_named = not asked or any(_SEPARATOR in name for name in asked) or any(own.levels.reads_names() for own in passes)
    names = literal(_SEPARATOR.join(asked))
    steps = [] if is_named else [_ASKED.format(names=names, separator=literal(_SEPARATOR))]
    if len(passes) == 1:
        levels, values = passes[0].levels, passes[0].values
        steps.append(levels.newest_row(source, conditions if is_named else None, settles=settles))
    else:
        levels, values = _Levels(last="newest"), [value.handed_on for own in passes for value in own.values]
        numbers = {} if is_named else {name: number for number, name in enumerate(asked, 1)}
        steps += _side_by_side(passes, source, conditions if is_named else None, numbers, settles=settles)
    if not is_named:
        steps.append(f"named as (\n    select symbols_asked.name as symbol, {levels.last}.* exclude (symbol)\n"
                     f"    from {levels.last} join symbols_asked using (symbol)\n)")  # fmt: skip
        levels.last = "named"
    labels = [label for entry in entries for label in entry.columns.values()]
    values = sorted(values, key=lambda value: labels.index(value.label))
    return _selected(levels, steps, (*KEYS, BARS_BEFORE), values, joins)


@dataclass(frozen=True)
class _TakenPass:
    """A pass over the last bars, taken in."""

    levels: "_Levels"
    values: "list[_Value]"
    part: Pass


def _side_by_side(
    passes: "Sequence[_TakenPass]",
    source: str,
    conditions: Sequence[str] | None,
    numbers: Mapping[str, int],
    *,
    settles: bool,
) -> Iterator[str]:
    """The CTEs of several passes over the same bars, and of their newest rows beside each other.

    Args:
        numbers: what stands for the symbols' names in the bars; empty: their names do.
    """
    columns = set().union(*(own.levels.sources(own.levels.wanted) for own in passes)) - set(KEYS)
    prices = {name: f"{name}_before" for name in sorted(columns & PRICES)} if settles else {}
    counted = [f"({_BARS_AFTER}) as {BARS_AFTER}"]
    counted += [f"{_before(price)} as {before}" for price, before in prices.items()]
    rows = _source_rows(source, conditions, sorted(columns), ())
    yield f"bars_counted as materialized (\n    select *, {', '.join(counted)}\n    from ({rows})\n)"
    yield (
        f"counts as (\n    select symbol, max(timestamp) as timestamp, {bars_before(prices, BARS_AFTER)} as "
        f"{BARS_BEFORE}\n    from bars_counted group by symbol\n)"
    )
    for number, own in enumerate(passes):
        conditions = [] if own.part.last_bars is None else [f"{BARS_AFTER} <= {own.part.last_bars}"]
        if own.part.symbols is not None:
            named = (str(numbers[name]) if numbers else literal(name) for name in own.part.symbols)
            conditions.append(f"symbol in ({', '.join(named) or 'null'})")
        steps = [own.levels.newest_row("bars_counted", conditions)]
        values = [value for value in own.values if not value.is_joined]
        yield f"pass_{number} as (\n{_selected(own.levels, steps, ('symbol',), values, ())}\n)"
    joins = "".join(
        f"\n    left join (select symbol as symbol_{number}, * exclude (symbol) from pass_{number})"
        f" on counts.symbol is not distinct from symbol_{number}"
        for number in range(len(passes))
    )
    yield f"newest as (\n    from counts{joins}\n)"


def column_plans(
    entries: Sequence[PanelEntry], source: str, fused: Executor, in_lanes: Sequence[PanelEntry] = ()
) -> Iterator[ColumnPlan]:
    """Tell of each column its expression and how it is computed.

    Args:
        fused: how indicators that are fused are computed.
        in_lanes: those of the entries that are computed in lanes.
    """
    levels = _Levels()
    for entry in entries:
        try:
            values = levels.add(entry, source)
        except NotFusible:
            call = entry.call.sql(source)
            yield from (ColumnPlan(label, Executor.AS_IT_STANDS, f"from {call}") for label in entry.columns.values())
        else:
            executor = Executor.LANES if entry in in_lanes else fused
            yield from (ColumnPlan(value.label, executor, levels.written_out(value.column)) for value in values)


def _taken_in(
    levels: "_Levels", entries: Sequence[PanelEntry], source: str, conditions: Sequence[str], joined: int = 0
) -> "tuple[list[_Value], list[str]]":
    """The values of all entries, and the joins with those that are no chains, numbered from `joined` on."""
    values: list[_Value] = []
    joins: list[str] = []
    for entry in entries:
        try:
            values += levels.add(entry, source)
        except NotFusible:
            alias = f"joined_{joined + len(joins)}"
            rows = f"from {entry.call.sql(source)}{where(conditions)}"
            joins.append(f"left join ({rows}) as {alias} using (symbol, timestamp)")
            values += [
                _Value(f"{alias}.{identifier(column)}", label, is_joined=True)
                for column, label in entry.columns.items()
            ]
    return values, joins


def _selected(
    levels: "_Levels", steps: Sequence[str], keys: Sequence[str], values: "Sequence[_Value]", joins: Sequence[str]
) -> str:
    listed = ",\n    ".join([*(f"{levels.last}.{key}" for key in keys), *(one.named(one.column) for one in values)])
    return "\n".join(["with", ",\n".join(steps), f"select\n    {listed}", f"from {levels.last}", *joins])


@dataclass(frozen=True)
class PanelInOrder:
    """A panel over rows that are sorted once: every window is computed in lanes, which keeps them in order."""

    rows: str
    """the SELECT of what it reads of the source, in any order"""
    columns: Sequence[str]
    """those of the rows that blocks have lanes of; the timestamp comes first"""
    beside: str | None
    """the SELECT of what is not computed in lanes, for each of the rows; None means everything is"""
    labels: Sequence[str]
    """the columns of all, in the order in which they were asked for"""
    in_lanes: Sequence[PanelEntry]
    _levels: "_Levels"
    _values: "Sequence[_Value]"

    def query(self, most_bars: int, whole: Mapping[str, bool], *, counted: bool) -> str:
        """The SELECT of the panel from `rows_in_order`: blocks of `rows` by symbol and timestamp (see window_lanes).

        Symbols are the numbers that they have in the blocks.

        Args:
            most_bars: rows that a symbol has at most.
            whole: columns without a null; true: they are doubles.
            counted: `bars_before`, the bars before each row, comes last.
        """
        lanes = self._levels.by_lanes(self.columns, most_bars, whole)
        given = {
            "symbol": ("symbol",) * LANES,
            "timestamp": lanes.of("timestamp"),
            "is_bar": tuple(f"{j} < bars" for j in range(LANES)),
            **{f"value_{number}": lanes.of(one.column) for number, one in enumerate(self._values)},
        }
        if counted:
            given[BARS_BEFORE] = tuple(f"{BEFORE} + {j}" for j in range(LANES))
        steps = dict(lanes.ctes((text for texts in given.values() for text in texts), "rows_in_order"))
        last = [*steps][-1] if steps else "rows_in_order"
        bars = (", ".join(f"'{name}': {texts[j]}" for name, texts in given.items()) for j in range(LANES))
        # one list of structs is unnested faster than a list for each column
        bars_listed = ",\n    ".join(f"{{{bar}}}" for bar in bars)
        steps["unnested"] = f"unnested as (\n    select unnest([\n    {bars_listed}\n    ]) as bar from {last}\n)"
        values = [one.named(f"bar.value_{number}") for number, one in enumerate(self._values)]
        count = [f"bar.{BARS_BEFORE}"] if counted else []
        listed = ",\n    ".join(["bar.symbol", "bar.timestamp", *values, *count])
        return "\n".join(
            ["with", ",\n".join(steps.values()), f"select\n    {listed}", "from unnested", "where bar.is_bar"]
        )


def panel_in_order(entries: Sequence[PanelEntry], source: str, conditions: Sequence[str]) -> PanelInOrder | None:
    """The panel of `panel` for rows that are sorted first; None means none of the indicators is made for that."""
    if in_order := _in_order(entries, entries, source, conditions):
        return in_order
    able = [entry for entry in entries if _in_order([entry], [entry], source, conditions)]
    return _in_order(entries, able, source, conditions) if able else None


def _in_order(
    entries: Sequence[PanelEntry], in_lanes: Sequence[PanelEntry], source: str, conditions: Sequence[str]
) -> PanelInOrder | None:
    """The panel with some of the entries in lanes, and the others beside them; None means not made for lanes."""
    levels = _Levels()
    try:
        values = [value for entry in in_lanes for value in levels.add(entry, source)]
        more = levels.sources(levels.wanted) - set(KEYS)
        columns = ["timestamp", *(["symbol"] if levels.reads_names() else []), *sorted(more)]
        levels.by_lanes(columns, most_bars=1, whole={})
    except (NotFusible, NotInLanes, RecursionError):  # hundreds of CTEs, one on the other
        return None
    others = [entry for entry in entries if entry not in in_lanes]
    beside = panel(others, source, conditions) if others else None
    labels = [label for entry in entries for label in entry.columns.values()]
    rows = levels.source_rows(source, conditions, levels.wanted)
    return PanelInOrder(rows, columns, beside, labels, in_lanes, levels, values)


@dataclass(frozen=True, slots=True)
class _Value:
    """A column of a panel: which of the levels' columns it is."""

    column: str
    label: str
    type: str | None = None
    """what to cast it to"""
    is_joined: bool = False
    """of a relation beside the levels"""

    @property
    def handed_on(self) -> "_Value":
        """The value where a step before has given it its name."""
        return self if self.is_joined else _Value(identifier(self.label), self.label)

    def named(self, column: str) -> str:
        """The projection, from a column of this name."""
        return f"{column if self.type is None else f'cast({column} as {self.type})'} as {identifier(self.label)}"


LONGEST_EXPRESSION = 2000
"""Characters of an expression that is written out in one piece."""
_OURS = re.compile(r"\bc\d+\b")
_TAKEN = re.compile(rf"c\d+|{BARS_BEFORE}|{BARS_AFTER}|.*\W.*|\d.*", re.IGNORECASE | re.DOTALL)
"""Columns of a source that would not be told from ours."""


@dataclass
class _Levels:
    """Columns by name and their expressions; equal expressions are one column."""

    expressions: dict[str, exp.Expr] = field(default_factory=dict)
    guards: dict[str, None] = field(default_factory=dict)
    wanted: set[str] = field(default_factory=set)
    _names: dict[str, str] = field(default_factory=dict)
    _reads: dict[str, set[str]] = field(default_factory=dict)
    """of each column of ours: the columns that it is made of"""
    last: str = "bars_read"
    """the name of the last step"""

    def add(self, entry: PanelEntry, source: str) -> list["_Value"]:
        """Take in an indicator; returns its values.

        Raises:
            NotFusible: the indicator is not one to be taken apart.
        """
        steps = chain(entry.call.file, source)
        columns = entry.source_columns
        if columns is None and not entry.call.file.is_built_in:
            raise NotFusible
        arguments = {
            name.lower(): sqlglot.parse_one(entry.call.arguments.get(name, default), read="duckdb")
            for name, default in entry.call.file.parameters.items()
        }
        scopes: dict[str, dict[str, exp.Expr] | None] = {SOURCE: None}
        if columns is not None:
            scopes[SOURCE] = {name: exp.column(name) for name in columns if not _TAKEN.fullmatch(name)}
        for step in steps:
            scopes[step.name] = self._select(step, scopes[step.reads], arguments)
        values = {name: column.name for name, column in (scopes[steps[-1].name] or {}).items()}
        if not values.keys() >= {column.lower() for column in entry.columns}:
            raise NotFusible
        self.wanted |= {values[column.lower()] for column in entry.columns}
        return [
            _Value(values[column.lower()], label, entry.types.get(column)) for column, label in entry.columns.items()
        ]

    def _select(
        self, step: Step, scope: dict[str, exp.Expr] | None, arguments: Mapping[str, exp.Expr]
    ) -> dict[str, exp.Expr]:
        """Return the columns of a SELECT as columns of ours; scope None means it reads bars, whatever they hold."""
        if guard := step.select.args.get("where"):
            self.guards.setdefault(_substituted(guard.this, None, arguments, step).sql("duckdb"))
        given: dict[str, exp.Expr] = {}
        for projection in step.select.expressions:
            if isinstance(projection, exp.Star):
                more = scope or {}
            else:
                # a name given before is seen where there is no column of that name
                seen = None if scope is None else given | scope
                value = _substituted(projection.unalias(), seen, arguments, step)
                more = {projection.alias_or_name.lower(): self.column(self._windows_apart(value))}
            if given.keys() & more.keys():
                raise NotFusible  # DuckDB takes the first of two columns of a name
            given |= more
        return given

    def _windows_apart(self, value: exp.Expr) -> exp.Expr:
        """The expression with every window in it replaced by a column of its own."""

        def apart(node: exp.Expr) -> exp.Expr:
            return self.column(node) if is_windowed(node) else node

        return value.transform(apart, copy=False)  # it is a copy already, and copying takes half of planning

    def column(self, value: exp.Expr) -> exp.Expr:
        """The column of an expression, the same one for the same expression."""
        if isinstance(value, exp.Column) and not value.table:
            return value
        text = value.sql("duckdb", copy=False)  # to copy it takes as long as to write it
        if text not in self._names:
            name = self._names[text] = f"c{len(self._names) + 1}"
            self._reads[name] = _columns_in(value)
            self.expressions[name] = value
        return exp.column(self._names[text])

    def written_out(self, name: str) -> str:
        """The expression of a column over the source's columns; a long one names its parts below it."""
        text = _OURS.sub(lambda part: f"({self.written_out(part[0])})", self._text(name))
        if len(text) <= LONGEST_EXPRESSION:
            return text
        parts = sorted(self._needed({name}, set()) & self.expressions.keys() - {name}, key=lambda part: int(part[1:]))
        return "\n".join([self._text(name), *(f"{part}: {self._text(part)}" for part in parts)])

    def _text(self, name: str) -> str:
        return self.expressions[name].sql("duckdb") if name in self.expressions else name

    def every_row(self, source: str, conditions: Sequence[str]) -> str:
        """The CTEs that compute the wanted columns from the source's bars, a level each."""
        return ",\n".join([self._bars_read(source, conditions, self.wanted), *self._computed(self.wanted, KEYS)])

    def by_lanes(self, sources: Sequence[str], most_bars: int, whole: Mapping[str, bool]) -> WindowLanes:
        """The wanted columns over blocks of rows that are sorted.

        Raises:
            NotInLanes: a window is none that lanes give.
        """
        needed = self._needed(self.wanted, set())
        lanes = WindowLanes(Nullability(self.expressions, needed, self.wanted, whole), sources, most_bars)
        for name in self.expressions:
            if name in needed:
                lanes.add(name)
        return lanes

    def reads_names(self) -> bool:
        """Tell whether a value depends on what symbols are called, not only on which bars are of the same one."""
        columns = (column for value in self.expressions.values() for column in value.find_all(exp.Column))
        return "symbol" in self.wanted or any(
            column.name.lower() == "symbol" and column.arg_key != "partition_by" for column in columns
        )

    def sources(self, wanted: Set[str]) -> set[str]:
        """The source's columns that these are made of."""
        return self._needed(wanted, set()) - self.expressions.keys()

    def source_rows(self, source: str, conditions: Sequence[str] | None, wanted: Set[str]) -> str:
        """The SELECT of what the wanted columns are made of; conditions None means of `symbols_asked`, as numbers."""
        return _source_rows(source, conditions, sorted(self.sources(wanted) - set(KEYS)), self.guards)

    def newest_row(self, source: str, conditions: Sequence[str] | None, *, settles: bool = False) -> str:
        """The CTEs that compute the wanted columns of each symbol's last row; conditions as in `source_rows`.

        What windows read is computed on every row; the last windows are aggregates; the rest follows on one row each.
        """
        after = self._windows_apart(sqlglot.parse_one(_BARS_AFTER, read="duckdb"))
        rows_after = self.column(after).name
        aggregates: dict[str, exp.Expr] = {}
        waiting = list(self.wanted)
        while waiting:
            name = waiting.pop()
            value = self.expressions.get(name)
            if value is not None and not is_windowed(value):
                waiting += self._reads[name] - aggregates.keys() - set(KEYS)
            elif name not in aggregates:
                last = f"first({name}) filter ({rows_after} = 0)"
                windowed = at_last_row(value, rows_after, self.expressions) if value is not None else None
                aggregates[name] = windowed or sqlglot.parse_one(last, read="duckdb")
        prices = sorted(self.sources(self.wanted) & PRICES) if settles else []
        before = {price: self.column(sqlglot.parse_one(_before(price), read="duckdb")).name for price in prices}
        read = {rows_after, *before, *before.values()}.union(*map(_columns_in, aggregates.values())) - set(KEYS)
        steps = [self._bars_read(source, conditions, read), *self._computed(read, KEYS)]
        listed = ",\n        ".join(
            ["symbol", "max(timestamp) as timestamp", f"{bars_before(before, rows_after)} as {BARS_BEFORE}"]
            + [f"{aggregate.sql('duckdb')} as {name}" for name, aggregate in sorted(aggregates.items())]
        )
        steps.append(f"newest_rows as (\n    select\n        {listed}\n    from {self.last}\n    group by symbol\n)")
        self.last = "newest_rows"
        steps += self._computed(self.wanted, (*KEYS, BARS_BEFORE), given=aggregates.keys())
        return ",\n".join(steps)

    def _bars_read(self, source: str, conditions: Sequence[str] | None, wanted: Set[str]) -> str:
        """The CTE that reads the bars, as far as the wanted columns are made of them."""
        return f"bars_read as (\n    {self.source_rows(source, conditions, wanted)}\n)"

    def _needed(self, wanted: Set[str], given: Set[str]) -> set[str]:
        needed = set(wanted)
        for name in reversed(self.expressions):  # each comes after those that it reads
            if name in needed and name not in given:
                needed |= self._reads[name]
        return needed

    def _computed(self, wanted: Set[str], keys: Sequence[str], given: Set[str] = frozenset()) -> Iterator[str]:
        """The CTEs that compute the wanted columns from the last step, a SELECT each."""
        needed = self._needed(wanted, given) - given
        texts = {name: text for text, name in self._names.items()}
        columns = {
            name: Column.of(value, texts[name], self._reads[name])
            for name, value in self.expressions.items()
            if name in needed
        }
        label = "newest" if given else "windows"
        for name, text in ctes(columns, wanted, keys, self.last, label):
            self.last = name
            yield text


def _before(price: str) -> str:
    return f"lag({price}) over (partition by symbol order by timestamp)"


def _source_rows(source: str, conditions: Sequence[str] | None, columns: Sequence[str], guards: Iterable[str]) -> str:
    """The SELECT of some columns of a relation; conditions None means of `symbols_asked`, as numbers."""
    filtered = where([*(conditions or ()), *guards])
    if conditions is not None:
        return f"select {', '.join((*KEYS, *columns))} from {identifier(source)}{filtered}"
    listed = ", ".join(["symbols_asked.symbol", *(f"stored.{name}" for name in (*KEYS[1:], *columns))])
    joined = f"{identifier(source)} as stored join symbols_asked on stored.symbol = symbols_asked.name"
    return f"select {listed} from {joined}{filtered}"


def _substituted(
    value: exp.Expr, scope: Mapping[str, exp.Expr] | None, arguments: Mapping[str, exp.Expr], step: Step
) -> exp.Expr:
    """The expression with arguments for parameters, our columns for the scope's, and named windows written out."""

    def replaced(node: exp.Expr) -> exp.Expr:
        if isinstance(node, exp.Window) and node.args.get("alias") is not None:
            partition, order, frame = resolved_window(node, step.select)
            return exp.Window(
                this=node.this.transform(replaced),
                partition_by=[part.transform(replaced) for part in partition],
                order=exp.Order(expressions=[part.transform(replaced) for part in order]) if order else None,
                spec=frame.transform(replaced) if frame is not None else None,
            )
        if not isinstance(node, exp.Column):
            return node
        if node.table and node.table.lower() != step.qualifier:  # a field of a struct
            owner = _found(node.table, scope) if scope is not None else exp.column(node.table)
            return exp.column(node.name, table=owner.name)
        name = node.name.lower()
        if name in arguments and not node.table:
            return exp.paren(arguments[name].copy()) if arguments[name].find(exp.Neg) else arguments[name].copy()
        return _found(name, scope).copy() if scope is not None else exp.column(name)

    return value.transform(replaced)


def _found(name: str, scope: Mapping[str, exp.Expr]) -> exp.Expr:
    if name.lower() not in scope:
        raise NotFusible
    return scope[name.lower()]


def _columns_in(value: exp.Expr) -> set[str]:
    return {column.table or column.name for column in value.find_all(exp.Column)}
