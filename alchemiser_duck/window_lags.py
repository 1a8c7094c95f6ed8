"""Windows over rows that are sorted already, as a few lags each: what DuckDB streams, without a sort or a frame.

A frame of n rows is put together from frames of 1, 2, 4, 8, … rows, each made of the one before it and of that same
one so many rows back; frames of all lengths share them. Sums then add as a tournament does, which is more exact than
one after the other, and what is far smaller than its neighbours is not lost to a difference of large sums.
"""

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass

import sqlglot
from sqlglot import exp

from alchemiser_duck.sql_linter import function_name
from alchemiser_duck.window_aggregates import (
    decayed_sum_arguments,
    expanded,
    frame_bounds,
    is_windowed,
    runs_by_symbol_in_time,
)

BAR_NUMBER = "bar_number"
"""The column with a row's number within its symbol, from 1."""

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


class NotByLagsError(Exception):
    """The window is none that lags give."""


class WindowLags:
    """Writes windows as lags over sorted rows."""

    def __init__(
        self,
        column: Callable[[exp.Expr], exp.Expr],
        columns: Mapping[str, exp.Expr],
        most_bars: int,
        without_null: Set[str] = frozenset(),
    ) -> None:
        """
        Args:
            column: gives an expression a column of its own, the same one for the same expression.
            columns: what the columns given so far are.
            most_bars: rows that a symbol has at most.
            without_null: columns of the rows that are never null.
        """
        self._column = column
        self._columns = columns
        self._missing_in = dict.fromkeys(without_null, 0)
        self._longest = 1 << (most_bars - 1).bit_length()

    def value(self, window: exp.Expr) -> exp.Expr:
        """The window's value on each row, as an expression over columns.

        Raises:
            NotByLagsError: there is none.
        """
        if isinstance(window, exp.Anonymous) and window.name.lower() == "decayed_sum":
            return self._decayed_sum(window)
        if isinstance(window, exp.Anonymous):
            return expanded(window).transform(lambda node: self.value(node) if is_windowed(node) else node)
        if not isinstance(window, exp.Window) or not runs_by_symbol_in_time(window):
            raise NotByLagsError
        function, condition = window.this, None
        if isinstance(function, exp.Filter):
            function, condition = function.this, function.expression.this
        if isinstance(function, exp.RowNumber):
            return exp.column(BAR_NUMBER)
        if isinstance(function, exp.Lag):
            if function.args.get("default") or condition:
                raise NotByLagsError
            x, rows = self._column(function.this), _whole(function.args.get("offset") or exp.Literal.number(1))
            back, missing = self._column(self._back(x, rows)), self._missing(x)
            if missing is not None and isinstance(back, exp.Column):
                self._missing_in[back.name] = missing + rows
            return back
        rows, shift = _frame(window.args.get("spec"), self._longest)
        return self._shifted(self._aggregate(function, condition, rows), shift, function)

    def _aggregate(self, function: exp.Expr, condition: exp.Expr | None, rows: int) -> exp.Expr:
        name = function_name(function)
        if isinstance(function.this, exp.Star | None) and name == "count":
            function = exp.Count(this=exp.Literal.number(1))
        if len(list(function.iter_expressions())) != 1 or not isinstance(function.this, exp.Expr):
            raise NotByLagsError
        x = function.this
        if condition is not None:
            x = exp.Case(ifs=[exp.If(this=condition.copy(), true=x.copy())])
        if name == "count":
            return self._count(x, rows)
        if name in ("max", "min"):
            return self._extreme(self._column(x), rows, "<" if name == "max" else ">")
        if name in ("sum", "avg"):
            count, total = self._count(x, rows), self._sum(self._or_zero(x), rows)
            value = f"{_sql(total)} / {_sql(count)}" if name == "avg" else _sql(total)
            return _parsed(value if self._missing(x) == 0 else f"case when {_sql(count)} > 0 then {value} end")
        if name in _DEVIATIONS:
            count, squares = self._count(x, rows), self._squares(x, rows)
            least = 1 if "- 1" in _DEVIATIONS[name] else 0
            formula = _DEVIATIONS[name].format(squares=_sql(squares), count=_sql(count))
            return _parsed(f"case when {_sql(count)} > {least} then {formula} end")
        raise NotByLagsError

    def _shifted(self, value: exp.Expr, rows: int, function: exp.Expr) -> exp.Expr:
        """The value so many rows back; an empty frame gives null, or counts none."""
        if not rows:
            return value
        back = self._back(self._column(value), rows)
        return _parsed(f"coalesce({_sql(back)}, 0)") if function_name(function) == "count" else back

    def _count(self, x: exp.Expr, rows: int) -> exp.Expr:
        """How many values are not null."""
        missing = self._missing(x)
        if missing is None:
            return self._sum(self._column(_parsed(f"case when {_sql(x)} is null then 0 else 1 end")), rows)
        if not missing:
            return self._column(_parsed(f"case when {BAR_NUMBER} < {rows} then {BAR_NUMBER} else {rows} end"))
        some = f"when {BAR_NUMBER} > {missing} then {BAR_NUMBER} - {missing} else 0"
        return self._column(_parsed(f"case when {BAR_NUMBER} >= {rows + missing} then {rows} {some} end"))

    def _or_zero(self, x: exp.Expr) -> exp.Expr:
        return self._column(x if self._missing(x) == 0 else _parsed(f"coalesce({_sql(x)}, 0)"))

    def _missing(self, x: exp.Expr) -> int | None:
        """How many of a symbol's first values are null, where no later one can be; None: any may be."""
        if isinstance(x, exp.Column):
            if x.name in self._missing_in:
                return self._missing_in[x.name]
            made = self._columns.get(x.name)
            return None if made is None else self._missing(made)
        if isinstance(x, exp.Literal) or (isinstance(x, exp.Anonymous) and x.name.lower() == "null_as_nan"):
            return 0
        if isinstance(x, exp.Paren):
            return self._missing(x.this)
        if isinstance(x, exp.Add | exp.Sub | exp.Mul | exp.Div):
            left, right = self._missing(x.left), self._missing(x.right)
            return None if left is None or right is None else max(left, right)
        return None

    def _sum(self, x: exp.Expr, rows: int) -> exp.Expr:
        """The sum over the last rows of a column that is never null."""

        def both(near: "_Frame", far: "_Frame") -> exp.Expr:
            back = self._back(far.value, near.rows, otherwise="0")
            return self._column(_parsed(f"{_sql(near.value)} + {_sql(back)}"))

        return _put_together(rows, x, both)

    def _squares(self, x: exp.Expr, rows: int) -> exp.Expr:
        """The sum of squared deviations from the mean over the last rows.

        source: Chan, Golub, LeVeque, Updating Formulae and a Pairwise Algorithm for Computing Sample Variances (1979)
        """
        return _put_together(rows, _parsed("0"), lambda near, far: self._squares_of_both(x, near, far))

    def _squares_of_both(self, x: exp.Expr, near: "_Frame", far: "_Frame") -> exp.Expr:
        """The squares over two frames, one before the other, from the squares over each."""
        values, rows, more = self._or_zero(x), near.rows, far.rows
        total, squares = _sql(self._sum(values, rows)), _sql(near.value)
        far_total = _sql(self._far_back(self._sum(values, more), rows))
        far_squares = _sql(self._far_back(far.value, rows) if more > 1 else far.value)
        missing = self._missing(x)
        if missing is None:
            count, far_count = _sql(self._count(x, rows)), _sql(self._far_back(self._count(x, more), rows))
            complete = f"{_sql(self._count(x, rows + more))} = {rows + more}"
        else:
            count, far_count = (
                f"least({BAR_NUMBER} - {missing}, {rows})",
                f"least({BAR_NUMBER} - {missing + rows}, {more})",
            )
            complete = f"{BAR_NUMBER} >= {rows + more + missing}"
        # where all of them are there, which is nearly everywhere, two constants do
        ratio = "" if rows == more else f"* ({rows} / {more})"
        # of whole numbers, too: their squares would not fit
        apart = _sql(self._column(_parsed(f"({total} - {far_total} {ratio})::double")))
        scale = more / rows / (rows + more)
        between = f"{apart} * {apart} * {scale!r}::double"
        inside = f"{squares} + {far_squares} + " if rows > 1 else ""
        some = f"{BAR_NUMBER} > {rows} and {far_count} > 0"
        both = f"({count} * {far_count} / ({count} + {far_count}))"
        return self._column(
            _parsed(
                f"case when {complete} then {inside}{between} "
                f"when {some} and {count} > 0 then {squares} + {far_squares} + "
                f"pow({total} / {count} - {far_total} / {far_count}, 2) * {both} "
                f"when {some} then {far_squares} else {squares} end"
            )
        )

    def _extreme(self, x: exp.Expr, rows: int, compare: str) -> exp.Expr:
        """The greatest or least over the last rows; that some of them count twice does not matter.

        Args:
            compare: how what is better compares with a value: a NaN is greater than any.
        """

        def either(back: int) -> exp.Expr:
            # greatest() and least() are slow
            is_there, far, near = _sql(self._is_there(back)), _sql(self._far_back(x, back)), _sql(x)
            better = f"{near} {compare} {far} or {near} is null"
            return self._column(_parsed(f"case when {is_there} and ({better}) then {far} else {near} end"))

        size = 1
        while size * 2 <= rows:
            x = either(size)
            size *= 2
        return either(rows - size) if size < rows else x

    def _decayed_sum(self, call: exp.Anonymous) -> exp.Expr:
        """As decayed_sum.sql has it: a bar among the first ones is scaled up by what it will have lost too much."""
        arguments = decayed_sum_arguments(call, self._columns)
        if arguments is None:
            raise NotByLagsError
        x, number, seed_bars, q = map(_sql, arguments)
        decayed = self._column(
            _parsed(
                f"case when {number} >= {seed_bars} then coalesce({x}, 0) "
                f"when {number} >= 1 then coalesce({x}, 0) / pow({q}, {seed_bars} - {number}) else 0 end"
            )
        )
        size = 1
        while size < self._longest:
            back = _sql(self._back(decayed, size, otherwise="0"))
            decayed = self._column(_parsed(f"{_sql(decayed)} + pow({q}, {size}) * {back}"))
            size *= 2
        return decayed

    def _back(self, column: exp.Expr, rows: int, otherwise: str = "null") -> exp.Expr:
        """The column so many rows back within the symbol."""
        if not rows:
            return column
        back = _sql(self._far_back(column, rows))
        return _parsed(f"case when {_sql(self._is_there(rows))} then {back} else {otherwise} end")

    def _is_there(self, rows: int) -> exp.Expr:
        """Whether the symbol has a row so many rows back."""
        return _parsed(f"{BAR_NUMBER} > {rows}")

    def _far_back(self, column: exp.Expr, rows: int) -> exp.Expr:
        """The column so many rows back, whichever symbol's that row is."""
        gone = 0
        for left in range(-(-rows // FARTHEST_LAG), 0, -1):
            step = -(-(rows - gone) // left)
            column = self._column(_parsed(f"lag({_sql(column)}, {step}) over ()"))
            gone += step
        return column


@dataclass(frozen=True, slots=True)
class _Frame:
    """The last so many rows, and what a window gives over them."""

    rows: int
    value: exp.Expr


def _put_together(rows: int, single: exp.Expr, both: Callable[[_Frame, _Frame], exp.Expr]) -> exp.Expr:
    """The value over the last rows, from that of a single one and of frames of 2, 4, 8, … rows.

    Args:
        both: the value over a frame and the one before it.
    """
    powers = [_Frame(1, single)]
    while powers[-1].rows * 2 <= rows:
        powers.append(_Frame(powers[-1].rows * 2, both(powers[-1], powers[-1])))
    total = powers.pop()
    for power in reversed(powers):
        if rows - total.rows >= power.rows:
            total = _Frame(total.rows + power.rows, both(total, power))
    return total.value


def _frame(spec: exp.Expr | None, longest: int) -> tuple[int, int]:
    """How many rows the frame has, and how many rows back it ends."""
    bounds = frame_bounds(spec)
    if bounds is None:
        raise NotByLagsError
    start, end = bounds
    back = 0 if end is None else _whole(end)
    rows = longest if start is None else _whole(start) - back + 1
    if rows < 1:
        raise NotByLagsError
    return min(rows, longest), back


def _whole(value: exp.Expr) -> int:
    """The number of rows that an expression over literals gives."""
    match value:
        case exp.Literal() if value.is_int:
            return int(value.name)
        case exp.Paren():
            return _whole(value.this)
        case exp.Add():
            return _whole(value.left) + _whole(value.right)
        case exp.Sub():
            return _whole(value.left) - _whole(value.right)
        case exp.Mul():
            return _whole(value.left) * _whole(value.right)
        case exp.IntDiv():
            return _whole(value.left) // _whole(value.right)
    raise NotByLagsError


def _sql(value: exp.Expr) -> str:
    if isinstance(value, exp.Column) and not value.table:
        return value.name
    text = value.sql("duckdb", copy=False)
    return text if isinstance(value, exp.Column | exp.Literal | exp.Func | exp.Paren) else f"({text})"


def _parsed(text: str) -> exp.Expr:
    return sqlglot.parse_one(text, read="duckdb")
