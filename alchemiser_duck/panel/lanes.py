"""Windows over rows that are sorted already, several rows side by side: what DuckDB streams, without a sort or a frame.

Each row of the query is a block: so many bars of a symbol, one after the other, a lane each. What is in the same block
is in another column of the same row; only what is before it takes a lag, of blocks. Sums add as a tournament does
(see lane_frames), which is more exact than one after the other, and what is far smaller than its neighbours is not lost
to a difference of large sums.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence, Set

import sqlglot
from sqlglot import exp

from alchemiser_duck.panel.execution import BEFORE, BLOCK_KEYS, LANES, lane
from alchemiser_duck.panel.lane_frames import Both, Extent, Frame, LaneFrames
from alchemiser_duck.panel.levels import Column, ctes
from alchemiser_duck.panel.newest import (
    decayed_sum_arguments,
    expanded,
    is_windowed,
    runs_by_symbol_in_time,
)
from alchemiser_duck.panel.nullability import NotCountedError, PanelFacts, frame_rows, is_arithmetic, lag_rows
from alchemiser_duck.query.sql_trees import function_name

FARTHEST_LAG = 2047
"""DuckDB streams lags that are shorter than a vector of rows."""

_DEVIATIONS = {
    "stddev": "sqrt({squares} / ({count} - 1))",
    "stddev_samp": "sqrt({squares} / ({count} - 1))",
    "stddev_pop": "sqrt({squares} / {count})",
    "variance": "{squares} / ({count} - 1)",
    "var_samp": "{squares} / ({count} - 1)",
    "var_pop": "{squares} / {count}",
}
_TOKEN = re.compile("\x02(.*?)\x02", re.DOTALL)
_READ = re.compile(rf"\b(?:c\d+|r\d+_\d+|{BEFORE})\b")

Lanes = tuple[str, ...]
"""A value on each row, as SQL over the columns of a block: one for each lane."""


class NotByLanesError(Exception):
    """The window is none that lanes give."""


class WindowLanes:
    """Writes the columns of a panel as columns of its lanes."""

    def __init__(self, facts: PanelFacts, sources: Sequence[str], most_bars: int) -> None:
        """
        Args:
            facts: of the panel's columns, c1, c2, …, each after those that it reads.
            sources: the columns of the source, by place.
            most_bars: rows that a symbol has at most.
        """
        self.columns: dict[str, Column] = {}
        """what was written so far, each after those that it reads"""
        self._names: dict[str, str] = {}
        self._facts = facts
        self._lanes = {name: tuple(lane(place, j) for j in range(LANES)) for place, name in enumerate(sources)}
        self._bar_numbers = tuple(f"({BEFORE} + {j + 1})" for j in range(LANES))
        self._most_blocks = 1 << (-(-most_bars // LANES) - 1).bit_length()

    def add(self, name: str) -> None:
        """Take in a column of the panel.

        Raises:
            NotByLanesError: a window is none that lanes give.
        """
        try:
            value, first = self._facts.panel[name], self._facts.read_from(name)
            self._lanes[name] = self._window(value, first) if is_windowed(value) else self._rows(value)
        except NotCountedError as problem:
            raise NotByLanesError from problem

    def of(self, name: str) -> Lanes:
        """The lanes of a column that was taken in, or of the source."""
        return self._lanes[name]

    def ctes(self, texts: Iterable[str], blocks: str) -> Iterator[tuple[str, str]]:
        """The CTEs that compute what these texts read from the blocks: the name of each, and its text."""
        wanted = {name for text in texts for name in _READ.findall(text)} | set(BLOCK_KEYS)
        needed = set(wanted)
        for name, column in reversed(self.columns.items()):
            if name in needed:
                needed |= column.reads
        columns = {name: column for name, column in self.columns.items() if name in needed}
        return ctes(columns, wanted, BLOCK_KEYS, blocks, "lanes")

    def _window(self, window: exp.Expr, first: int = 1) -> Lanes:
        """A window's values, which may be any before the first bar on which they are looked at."""
        if isinstance(window, exp.Anonymous) and window.name.lower() == "decayed_sum":
            return self._decayed_sum(window)
        if isinstance(window, exp.Anonymous):
            return self._rows(expanded(window))
        if not isinstance(window, exp.Window) or not runs_by_symbol_in_time(window):
            raise NotByLanesError
        function, condition = window.this, None
        if isinstance(function, exp.Filter):
            function, condition = function.this, function.expression.this
        if isinstance(function, exp.RowNumber):
            return self._bar_numbers
        if isinstance(function, exp.Lag):
            if function.args.get("default") or condition:
                raise NotByLanesError
            return self._back(self._rows(function.this), lag_rows(function))
        rows, shift = frame_rows(window.args.get("spec"))
        value = self._aggregate(function, condition, Extent(rows, first - shift))
        if not shift:
            return value
        back = self._back(value, shift)  # an empty frame gives null, or counts none
        return self._each(lambda j: f"coalesce({back[j]}, 0)") if function_name(function) == "count" else back

    def _apart(self, node: exp.Expr) -> exp.Expr:
        """A window as a column of its own."""
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
            raise NotByLanesError
        x = function.this
        if condition is not None:
            x = exp.Case(ifs=[exp.If(this=condition.copy(), true=x.copy())])
        if name in ("max", "min"):
            return self._extreme(x, extent, "<" if name == "max" else ">")
        count = self._count(x, extent)
        if name == "count":
            return count
        if name in ("sum", "avg"):
            total, least = self._sum(self._or_zero(x), extent), 0
            given = [f"{total[j]} / {count[j]}" if name == "avg" else total[j] for j in range(LANES)]
        elif name in _DEVIATIONS:
            squares, least = self._squares(x, extent), 1 if "- 1" in _DEVIATIONS[name] else 0
            given = [_DEVIATIONS[name].format(squares=squares[j], count=count[j]) for j in range(LANES)]
        else:
            raise NotByLanesError
        missing = self._facts.missing(x)
        if extent.is_full(missing, least) or (missing == 0 and least == 0):
            return self._each(lambda j: given[j])
        return self._each(lambda j: f"case when {count[j]} > {least} then {given[j]} end")

    def _or_zero(self, x: exp.Expr) -> Lanes:
        lanes = self._rows(x)
        return lanes if self._facts.missing(x) == 0 else self._each(lambda j: f"coalesce({lanes[j]}, 0)")

    def _count(self, x: exp.Expr, extent: Extent) -> Lanes:
        """How many values are not null."""
        missing, rows = self._facts.missing(x), extent.rows
        if missing is None:
            lanes = self._rows(x)
            return self._sum(self._each(lambda j: f"case when {lanes[j]} is null then 0 else 1 end"), extent)
        some = [f"greatest({bar} - {missing}, 0)" if missing else bar for bar in self._bar_numbers]

        def at(j: int) -> str:
            if rows is None:
                return some[j]
            if extent.is_full(missing) or rows + missing <= j + 1:
                return f"{rows}::bigint"
            return f"case when {BEFORE} >= {rows + missing - j - 1} then {rows} else {some[j]} end"

        return self._each(at)

    def _sum(self, x: Lanes, extent: Extent, decay: str | None = None) -> Lanes:
        """The sum over the last rows of what is never null.

        Args:
            decay: what a value's weight is multiplied by with each later row.
        """

        def both(near: Frame, far: Frame, _: int, there: str | None) -> tuple[str]:
            weight = "" if decay is None else f"pow({decay}, {near.rows}) * "
            return (self._column(f"{near.values[0]} + {weight}{self._or_none(far.values[0], there)}"),)

        return tuple(value for (value,) in self._frames([(one,) for one in x], extent, both))

    def _extreme(self, x: exp.Expr, extent: Extent, compare: str) -> Lanes:
        """The greatest or least over the last rows.

        Args:
            compare: how what is better compares with a value: a NaN is greater than any.
        """
        missing = self._facts.missing(x)

        def both(near: Frame, far: Frame, _: int, there: str | None) -> tuple[str]:
            # greatest() and least() are slow
            (later,), (earlier,) = near.values, far.values
            better = f"{later} {compare} {earlier}" + ("" if missing == 0 else f" or {later} is null")
            better = better if there is None else f"{there} and ({better})"
            return (self._column(f"case when {better} then {earlier} else {later} end"),)

        return tuple(value for (value,) in self._frames([(one,) for one in self._rows(x)], extent, both))

    def _squares(self, x: exp.Expr, extent: Extent) -> Lanes:
        """The sum of squared deviations from the mean over the last rows.

        source: Chan, Golub, LeVeque, Updating Formulae and a Pairwise Algorithm for Computing Sample Variances (1979)
        """
        missing, totals = self._facts.missing(x), self._or_zero(x)
        counts = [(one,) for one in self._count(x, Extent(1))] if missing is None else [()] * LANES

        def both(near: Frame, far: Frame, end: int, there: str | None) -> tuple[str, ...]:
            total, squares, *count = near.values
            far_total, far_squares, *far_count = far.values

            def added(one: str, other: str) -> str:
                return self._column(f"{one} + {self._or_none(other, there)}")

            sums = [added(*one) for one in zip(count, far_count, strict=True)]
            # of whole numbers, too: their squares would not fit
            ratio = "" if near.rows == far.rows else f" * ({near.rows} / {far.rows})"
            apart = self._column(f"({total} - {far_total}{ratio})::double")
            scale = far.rows / near.rows / (near.rows + far.rows)
            inside = [one for one in (squares, far_squares) if one != "0"]
            complete = " + ".join([*inside, f"{apart} * {apart} * {scale!r}::double"])
            if missing is None:
                is_complete = f"{sums[0]} = {near.rows + far.rows}"
                here, far_here = count[0], far_count[0]
            else:
                least = near.rows + far.rows + missing - end - 1
                if least <= 0 or extent.is_full(missing):
                    return added(total, far_total), self._column(complete)
                is_complete = f"{BEFORE} >= {least}"
                here = f"least({BEFORE} + {end + 1 - missing}, {near.rows})"
                far_here = f"least({BEFORE} + {end + 1 - missing - near.rows}, {far.rows})"
            # where all of them are there, which is nearly everywhere, two constants do
            some = f"{far_here} > 0" if there is None else f"{there} and {far_here} > 0"
            between = (
                f"pow({total} / {here} - {far_total} / {far_here}, 2) * ({here} * {far_here} / ({here} + {far_here}))"
            )
            merged = self._column(
                f"case when {is_complete} then {complete} "
                f"when {some} and {here} > 0 then {' + '.join([*inside, between])} "
                f"when {some} then {far_squares} else {squares} end"
            )
            return added(total, far_total), merged, *sums

        single = [(total, "0", *count) for total, count in zip(totals, counts, strict=True)]
        return tuple(values[1] for values in self._frames(single, extent, both))

    def _decayed_sum(self, call: exp.Anonymous) -> Lanes:
        """As decayed_sum.sql has it: a bar among the first ones is scaled up by what it will have lost too much."""
        arguments = decayed_sum_arguments(call, self._facts.panel)
        if arguments is None or any(constant.find(exp.Column) for constant in arguments[2:]):
            raise NotByLanesError
        x, number, seed_bars, q = (f"({argument.sql('duckdb')})" for argument in arguments)
        x = x if self._facts.missing(arguments[0]) == 0 else f"coalesce({x}, 0)"
        weighted = _parsed(
            f"case when {number} >= {seed_bars} then {x} "
            f"when {number} >= 1 then {x} / pow({q}, {seed_bars} - {number}) else 0 end"
        )
        return self._sum(self._rows(weighted), Extent(None), q)

    def _frames(self, single: Sequence[tuple[str, ...]], extent: Extent, both: Both) -> list[tuple[str, ...]]:
        """What is computed over each lane's frame, from what it is over one row.

        Args:
            single: of each lane.
        """
        return LaneFrames(single, both, self._far_back, extent, self._most_blocks).values()

    def _or_none(self, value: str, there: str | None) -> str:
        """The value where it is there, otherwise 0."""
        return value if there is None else self._column(f"case when {there} then {value} else 0 end")

    def _back(self, lanes: Lanes, rows: int) -> Lanes:
        """The values so many rows back within the symbol."""

        def at(j: int) -> str:
            blocks, source = -((j - rows) // LANES), (j - rows) % LANES
            if not blocks:
                return lanes[source]
            return f"case when {BEFORE} >= {rows - j} then {self._far_back(lanes[source], blocks)} end"

        return self._each(at)

    def _far_back(self, value: str, blocks: int) -> str:
        """The value so many blocks back, whichever symbol's that is."""
        if not _READ.search(value):  # a constant
            return value
        gone = 0
        for left in range(-(-blocks // FARTHEST_LAG), 0, -1):
            step = -(-(blocks - gone) // left)
            value = self._column(f"lag({value}, {step}) over ()", is_lag=True)
            gone += step
        return value

    def _rows(self, value: exp.Expr) -> Lanes:
        """An expression on each row."""
        if any(is_windowed(node) for node in value.walk()):
            value = value.transform(self._apart)
        if isinstance(value, exp.Column) and not value.table:
            return self._lanes[value.name]
        return self._from_some_bar_on(value) or self._row_by_row(value)

    def _from_some_bar_on(self, value: exp.Expr) -> Lanes | None:
        """What is null up to some bar, and arithmetic from there on; None: the expression is not of that kind.

        DuckDB computes what is in a branch on parts of vectors, which takes longer than on whole ones.
        """
        if not isinstance(value, exp.Case) or len(value.args["ifs"]) != 1 or value.args.get("default"):
            return None
        (branch,) = value.args["ifs"]
        if value.this or self._facts.holds_from(branch.this) is None or not is_arithmetic(branch.args["true"]):
            return None
        held, given = self._rows(branch.this), self._rows(branch.args["true"])
        cases = (f"case when {held[j]} then {given[j]} end" for j in range(LANES))
        return tuple(self._column(case, is_plain=False) for case in cases)  # the branch stays a column

    def _row_by_row(self, value: exp.Expr) -> Lanes:
        """An expression with each lane's columns for the panel's."""
        if "\x02" in value.sql("duckdb", copy=False):
            raise NotByLanesError
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
        named = (one for one in template.walk() if isinstance(one, exp.Anonymous | exp.Column))
        is_plain = not re.search("['\"]", text) and not any(
            isinstance(one, exp.Anonymous) or one.table for one in named
        )

        def at(j: int) -> str:
            reads = {found for name in read for found in _READ.findall(self._lanes[name][j])}
            return self._column(_TOKEN.sub(lambda name: self._lanes[name[1]][j], text), reads, is_plain=is_plain)

        return tuple(at(j) for j in range(LANES))

    def _simpler(self, node: exp.Expr) -> exp.Expr:
        """The same value with less to compute."""
        if (bar := self._facts.holds_from(node)) is not None:
            holds = f"from bar {bar} on"
            self._lanes[holds] = tuple(f"({BEFORE} >= {bar - j - 1})" if bar > j + 1 else "true" for j in range(LANES))
            return exp.column(holds)
        if isinstance(node, exp.Anonymous) and node.name.lower() == "null_as_nan":
            (argument,) = node.expressions
            if isinstance(argument, exp.Column) and self._facts.whole.get(argument.name):
                return argument
        return node

    def _each(self, text: Callable[[int], str]) -> Lanes:
        return tuple(self._column(text(j)) for j in range(LANES))

    def _column(self, text: str, reads: Set[str] | None = None, *, is_plain: bool = True, is_lag: bool = False) -> str:
        """The column of an expression, the same one for the same expression; a constant is written where it is used.

        Args:
            reads: columns that it reads; None: all it seems to name.
        """
        if _READ.fullmatch(text):
            return text
        if not _READ.search(text) and is_plain:
            return f"({text})"
        if text not in self._names:
            name = self._names[text] = f"c{len(self._names) + 1}"
            found = frozenset(_READ.findall(text) if reads is None else reads)
            self.columns[name] = Column(text, found, has_window=is_lag, is_lag=is_lag, is_plain=is_plain)
        return self._names[text]


def _parsed(text: str) -> exp.Expr:
    return sqlglot.parse_one(text, read="duckdb")
