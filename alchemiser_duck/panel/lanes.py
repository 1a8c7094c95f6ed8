"""Compute windows over sorted rows, several bars side by side.

DuckDB then needs no sort and no frame, only lags, which it streams. Each row of the query is a block: LANES bars of a
symbol one after the other, a lane each. A value in the same block is another column of the same row; only what lies
before the block takes a lag, of blocks. With 4 lanes, `lag(x, 1)` in lane 2 is the column of lane 1, and in lane 0 it
is `lag` of lane 3's column over the blocks. Sums add as a tournament does (see lane_frames), which is more exact than
one after the other, and no small number is lost to a difference of large sums.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence, Set

from sqlglot import exp

from alchemiser_duck.panel.execution import BEFORE, BLOCK_KEYS, LANES, lane
from alchemiser_duck.panel.lane_frames import Combine, Extent, Frame, LaneFrames
from alchemiser_duck.panel.levels import Column, ctes
from alchemiser_duck.panel.newest import decayed_sum_arguments, expanded, function_and_filter, runs_by_symbol_in_time
from alchemiser_duck.panel.nullability import (
    Nullability,
    UnknownRowCount,
    frame_rows,
    is_arithmetic,
    known_rows,
    lag_offset,
)
from alchemiser_duck.query.sql_trees import function_name, is_windowed, parsed

FARTHEST_LAG = 2047
"""DuckDB streams lags that are shorter than a vector of rows."""

_FORMULAS = {
    "sum": "{value}",
    "avg": "{value} / {count}",
    "stddev": "sqrt({value} / ({count} - 1))",
    "stddev_samp": "sqrt({value} / ({count} - 1))",
    "stddev_pop": "sqrt({value} / {count})",
    "variance": "{value} / ({count} - 1)",
    "var_samp": "{value} / ({count} - 1)",
    "var_pop": "{value} / {count}",
}
"""Of the sum for sum and avg, of the squared deviations for the others, and of the values that are not null."""
_TOKEN = re.compile("\x02(.*?)\x02", re.DOTALL)
_BLOCK_COLUMN = re.compile(rf"\b(?:c\d+|r\d+_\d+|{BEFORE})\b")

Lanes = tuple[str, ...]
"""A value on each row, as SQL over the columns of a block: one for each lane."""


class NotInLanes(Exception):
    """This window cannot be evaluated in lanes."""


class WindowLanes:
    """Writes the columns of a panel as columns of its lanes."""

    def __init__(self, nulls: Nullability, sources: Sequence[str], most_bars: int) -> None:
        """Start with the lanes of the source.

        Args:
            nulls: of the panel's columns, c1, c2, …, each after those that it reads.
            sources: the columns of the source, by place.
            most_bars: the most rows that a symbol has.
        """
        self.columns: dict[str, Column] = {}
        """columns written so far, each after those that it reads"""
        self._names: dict[str, str] = {}
        self._nulls = nulls
        self._lanes = {name: tuple(lane(place, j) for j in range(LANES)) for place, name in enumerate(sources)}
        self._bar_numbers = tuple(f"({BEFORE} + {j + 1})" for j in range(LANES))
        self._most_blocks = 1 << (-(-most_bars // LANES) - 1).bit_length()

    def add(self, name: str) -> None:
        """Take in a column of the panel.

        Raises:
            NotInLanes: it holds a window that cannot be evaluated in lanes.
        """
        value = self._nulls.columns[name]
        try:
            windowed = is_windowed(value)
            self._lanes[name] = self._window(value, self._nulls.live_from(name)) if windowed else self._rows(value)
        except UnknownRowCount as problem:
            raise NotInLanes from problem

    def of(self, name: str) -> Lanes:
        """Return the lanes of a column taken in, or of the source."""
        return self._lanes[name]

    def ctes(self, texts: Iterable[str], blocks: str) -> Iterator[tuple[str, str]]:
        """Yield name and text of the CTEs that compute what texts read."""
        wanted = {name for text in texts for name in _BLOCK_COLUMN.findall(text)} | set(BLOCK_KEYS)
        needed = set(wanted)
        for name, column in reversed(self.columns.items()):
            if name in needed:
                needed |= column.reads
        columns = {name: column for name, column in self.columns.items() if name in needed}
        return ctes(columns, wanted, BLOCK_KEYS, blocks, "lanes")

    def _window(self, window: exp.Expr, live_from: int = 1) -> Lanes:
        """Return a window's values, arbitrary before the bar on which they matter."""
        if isinstance(window, exp.Anonymous):
            return self._decayed_sum(window) if window.name.lower() == "decayed_sum" else self._rows(expanded(window))
        if not isinstance(window, exp.Window) or not runs_by_symbol_in_time(window):
            raise NotInLanes
        function, condition = function_and_filter(window)
        if isinstance(function, exp.RowNumber):
            return self._bar_numbers
        if isinstance(function, exp.Lag):
            if function.args.get("default") or condition:
                raise NotInLanes
            return self._back(self._rows(function.this), known_rows(lag_offset(function)))
        rows, shift = frame_rows(window.args.get("spec"))
        value = self._aggregate(function, condition, Extent(rows, live_from - shift))
        if not shift:
            return value
        back = self._back(value, shift)  # an empty frame gives null, or counts none
        return self._each(lambda j: f"coalesce({back[j]}, 0)") if function_name(function) == "count" else back

    def _window_apart(self, node: exp.Expr) -> exp.Expr:
        """Replace a window inside an expression by a column of its own."""
        if not is_windowed(node):
            return node
        lanes = self._window(node)
        name = "\x03".join(lanes)
        self._lanes[name] = lanes
        return exp.column(name)

    def _aggregate(self, function: exp.Expr, condition: exp.Expr | None, extent: Extent) -> Lanes:
        name = function_name(function)
        if isinstance(function.this, exp.Star | None) and name == "count":
            function = exp.Count(this=exp.Literal.number(1))
        if len(list(function.iter_expressions())) != 1 or not isinstance(function.this, exp.Expr):
            raise NotInLanes
        x = function.this
        if condition is not None:
            x = exp.Case(ifs=[exp.If(this=condition.copy(), true=x.copy())])
        if name in ("max", "min"):
            return self._extreme(x, extent, "<" if name == "max" else ">")
        count = self._count(x, extent)
        if name == "count":
            return count
        if name not in _FORMULAS:
            raise NotInLanes
        formula, is_sum = _FORMULAS[name], name in ("sum", "avg")
        values = self._sum(self._or_zero(x), extent) if is_sum else self._squares(x, extent)
        results = [formula.format(value=values[j], count=count[j]) for j in range(LANES)]
        least, nulls = int("- 1" in formula), self._nulls.leading_nulls(x)
        if extent.is_full(nulls, least) or (nulls == 0 and least == 0):
            return self._each(lambda j: results[j])
        return self._each(lambda j: f"case when {count[j]} > {least} then {results[j]} end")

    def _or_zero(self, x: exp.Expr) -> Lanes:
        lanes = self._rows(x)
        return lanes if self._nulls.leading_nulls(x) == 0 else self._each(lambda j: f"coalesce({lanes[j]}, 0)")

    def _count(self, x: exp.Expr, extent: Extent) -> Lanes:
        """Count the values that are not null."""
        nulls, rows = self._nulls.leading_nulls(x), extent.rows
        if nulls is None:
            lanes = self._rows(x)
            return self._sum(self._each(lambda j: f"case when {lanes[j]} is null then 0 else 1 end"), extent)
        all_so_far = [f"greatest({bar} - {nulls}, 0)" if nulls else bar for bar in self._bar_numbers]

        def at(j: int) -> str:
            if rows is None:
                return all_so_far[j]
            if extent.is_full(nulls) or rows + nulls <= j + 1:
                return f"{rows}::bigint"
            return f"case when {BEFORE} >= {rows + nulls - j - 1} then {rows} else {all_so_far[j]} end"

        return self._each(at)

    def _sum(self, x: Lanes, extent: Extent, decay: str | None = None) -> Lanes:
        """Sum the last rows of values that are never null.

        Args:
            decay: the factor of a value's weight with each later row; None means that weights stay 1.
        """

        def combine(later: Frame, earlier: Frame, _: int, exists: str | None) -> tuple[str]:
            weight = "" if decay is None else f"pow({decay}, {later.rows}) * "
            return (self._column(f"{later.values[0]} + {weight}{self._if_exists(earlier.values[0], exists)}"),)

        return self._over_frames([(value,) for value in x], extent, combine)

    def _extreme(self, x: exp.Expr, extent: Extent, compare: str) -> Lanes:
        """Find the greatest or least of the last rows, NaN above all.

        Args:
            compare: how a value compares with a better one: "<" for the greatest.
        """
        never_null = self._nulls.leading_nulls(x) == 0

        def combine(later: Frame, earlier: Frame, _: int, exists: str | None) -> tuple[str]:
            # greatest() and least() are slow
            (new,), (old,) = later.values, earlier.values
            better = f"{new} {compare} {old}" + ("" if never_null else f" or {new} is null")
            better = better if exists is None else f"{exists} and ({better})"
            return (self._column(f"case when {better} then {old} else {new} end"),)

        return self._over_frames([(value,) for value in self._rows(x)], extent, combine)

    def _squares(self, x: exp.Expr, extent: Extent) -> Lanes:
        """Sum the squared deviations of the last rows from their mean.

        source: Chan, Golub, LeVeque, Updating Formulae and a Pairwise Algorithm for Computing Sample Variances (1979)
        """
        nulls, totals = self._nulls.leading_nulls(x), self._or_zero(x)
        counts = [(count,) for count in self._count(x, Extent(1))] if nulls is None else [()] * LANES

        def combine(later: Frame, earlier: Frame, end: int, exists: str | None) -> tuple[str, ...]:
            (total, squares, *count), (old_total, old_squares, *old_count) = later.values, earlier.values
            rows, old_rows = later.rows, earlier.rows

            def added(new: str, old: str) -> str:
                return self._column(f"{new} + {self._if_exists(old, exists)}")

            sums = [added(*pair) for pair in zip(count, old_count, strict=True)]
            # of whole numbers, too: their squares would not fit
            ratio = "" if rows == old_rows else f" * ({rows} / {old_rows})"
            apart = self._column(f"({total} - {old_total}{ratio})::double")
            scale = old_rows / rows / (rows + old_rows)
            inside = [part for part in (squares, old_squares) if part != "0"]
            complete = " + ".join([*inside, f"{apart} * {apart} * {scale!r}::double"])
            if nulls is None:
                is_complete = f"{sums[0]} = {rows + old_rows}"
                here, old_here = count[0], old_count[0]
            else:
                least = rows + old_rows + nulls - end - 1
                if least <= 0 or extent.is_full(nulls):
                    return added(total, old_total), self._column(complete)
                is_complete = f"{BEFORE} >= {least}"
                here = f"least({BEFORE} + {end + 1 - nulls}, {rows})"
                old_here = f"least({BEFORE} + {end + 1 - nulls - rows}, {old_rows})"
            # where all of them are there, which is nearly everywhere, two constants do
            some = f"{old_here} > 0" if exists is None else f"{exists} and {old_here} > 0"
            means_apart = f"{total} / {here} - {old_total} / {old_here}"
            between = f"pow({means_apart}, 2) * ({here} * {old_here} / ({here} + {old_here}))"
            merged = self._column(
                f"case when {is_complete} then {complete} "
                f"when {some} and {here} > 0 then {' + '.join([*inside, between])} "
                f"when {some} then {old_squares} else {squares} end"
            )
            return added(total, old_total), merged, *sums

        single = [(total, "0", *count) for total, count in zip(totals, counts, strict=True)]
        return self._over_frames(single, extent, combine, place=1)

    def _decayed_sum(self, call: exp.Anonymous) -> Lanes:
        """Sum as decayed_sum.sql does, with the first bars scaled up."""
        arguments = decayed_sum_arguments(call, self._nulls.columns)
        if arguments is None or any(constant.find(exp.Column) for constant in arguments[2:]):
            raise NotInLanes
        x, number, seed_bars, q = (f"({argument.sql('duckdb')})" for argument in arguments)
        x = x if self._nulls.leading_nulls(arguments[0]) == 0 else f"coalesce({x}, 0)"
        weighted = parsed(
            f"case when {number} >= {seed_bars} then {x} "
            f"when {number} >= 1 then {x} / pow({q}, {seed_bars} - {number}) else 0 end"
        )
        return self._sum(self._rows(weighted), Extent(None), q)

    def _over_frames(
        self, single: Sequence[tuple[str, ...]], extent: Extent, combine: Combine, place: int = 0
    ) -> Lanes:
        """Return one of the values over each lane's frame."""
        frames = LaneFrames(single, combine, self._far_back, extent, self._most_blocks)
        return tuple(values[place] for values in frames.values())

    def _if_exists(self, value: str, exists: str | None) -> str:
        """Return the value where it exists, otherwise 0."""
        return value if exists is None else self._column(f"case when {exists} then {value} else 0 end")

    def _back(self, lanes: Lanes, rows: int) -> Lanes:
        """Return the values so many rows back within the symbol."""

        def at(j: int) -> str:
            blocks, source = -((j - rows) // LANES), (j - rows) % LANES
            if not blocks:
                return lanes[source]
            return f"case when {BEFORE} >= {rows - j} then {self._far_back(lanes[source], blocks)} end"

        return self._each(at)

    def _far_back(self, value: str, blocks: int) -> str:
        """Return the value so many blocks back, whichever symbol's that is."""
        if not _BLOCK_COLUMN.search(value):  # a constant
            return value
        lags = -(-blocks // FARTHEST_LAG)
        for number in reversed(range(lags)):
            step = (blocks + number) // lags
            value = self._column(f"lag({value}, {step}) over ()", is_lag=True)
        return value

    def _rows(self, value: exp.Expr) -> Lanes:
        """Return an expression on each row."""
        if any(is_windowed(node) for node in value.walk()):
            value = value.transform(self._window_apart)
        if isinstance(value, exp.Column) and not value.table:
            return self._lanes[value.name]
        return self._from_some_bar_on(value) or self._row_by_row(value)

    def _from_some_bar_on(self, value: exp.Expr) -> Lanes | None:
        """Compute a value that is null up to some bar; None means another kind.

        `case when bar >= 20 then x / 2 end` is arithmetic from bar 20 on.

        DuckDB computes a branch on parts of vectors, which takes longer than on whole ones.
        """
        if not isinstance(value, exp.Case) or len(value.args["ifs"]) != 1 or value.args.get("default"):
            return None
        (branch,) = value.args["ifs"]
        if value.this or self._nulls.true_from(branch.this) is None or not is_arithmetic(branch.args["true"]):
            return None
        conditions, values = self._rows(branch.this), self._rows(branch.args["true"])
        cases = (f"case when {conditions[j]} then {values[j]} end" for j in range(LANES))
        return tuple(self._column(case, is_plain=False) for case in cases)  # the branch stays a column

    def _row_by_row(self, value: exp.Expr) -> Lanes:
        """Return an expression with each lane's columns for the panel's."""
        if "\x02" in value.sql("duckdb", copy=False):
            raise NotInLanes
        read: set[str] = set()

        def marked(node: exp.Expr) -> exp.Expr:
            node = self._simpler(node)
            if not isinstance(node, exp.Column):
                return node
            owner = node.table or node.name  # or a field of a struct
            read.add(owner)
            token = exp.Identifier(this=f"\x02{owner}\x02", quoted=False)
            return exp.column(node.name, table=token) if node.table else exp.column(token)

        template = value.transform(marked)
        text = template.sql("duckdb", copy=False)
        is_plain = not re.search("['\"]", text) and not any(
            isinstance(node, exp.Anonymous) or (isinstance(node, exp.Column) and node.table) for node in template.walk()
        )

        def at(j: int) -> str:
            reads = {column for name in read for column in _BLOCK_COLUMN.findall(self._lanes[name][j])}
            return self._column(_TOKEN.sub(lambda name: self._lanes[name[1]][j], text), reads, is_plain=is_plain)

        return tuple(at(j) for j in range(LANES))

    def _simpler(self, node: exp.Expr) -> exp.Expr:
        """Return the same value with less to compute."""
        if (bar := self._nulls.true_from(node)) is not None:
            name = f"from bar {bar} on"
            self._lanes[name] = tuple(f"({BEFORE} >= {bar - j - 1})" if bar > j + 1 else "true" for j in range(LANES))
            return exp.column(name)
        if isinstance(node, exp.Anonymous) and node.name.lower() == "null_as_nan":
            (argument,) = node.expressions
            if isinstance(argument, exp.Column) and self._nulls.never_null.get(argument.name):
                return argument
        return node

    def _each(self, text: Callable[[int], str]) -> Lanes:
        return tuple(self._column(text(j)) for j in range(LANES))

    def _column(self, text: str, reads: Set[str] | None = None, *, is_plain: bool = True, is_lag: bool = False) -> str:
        """Return the column of an expression, the same for the same text.

        A constant is written where it is used.

        Args:
            reads: columns that it reads; None means all that it seems to name.
        """
        if _BLOCK_COLUMN.fullmatch(text):
            return text
        if not _BLOCK_COLUMN.search(text) and is_plain:
            return f"({text})"
        if text not in self._names:
            name = self._names[text] = f"c{len(self._names) + 1}"
            columns = frozenset(_BLOCK_COLUMN.findall(text) if reads is None else reads)
            self.columns[name] = Column(text, columns, has_window=is_lag, is_lag=is_lag, is_plain=is_plain)
        return self._names[text]
