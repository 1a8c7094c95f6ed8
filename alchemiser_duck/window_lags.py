"""Windows over rows that are sorted already, as a few lags each: what DuckDB streams, without a sort or a frame.

A frame of n rows is put together from frames of 1, 2, 4, 8, … rows, each made of the one before it and of that same
one so many rows back; frames of all lengths share them. Sums then add as a tournament does, which is more exact than
one after the other, and what is far smaller than its neighbours is not lost to a difference of large sums.
"""

from collections.abc import Callable, Mapping, Sequence

import sqlglot
from sqlglot import exp
from sqlglot.optimizer.simplify import simplify

from alchemiser_duck.sql_linter import function_name
from alchemiser_duck.window_aggregates import (
    decayed_sum_arguments,
    expanded,
    is_windowed,
    runs_by_symbol_in_time,
)

BAR_NUMBER = "bar_number"
"""The column with a row's number within its symbol, from 1."""

FARTHEST_LAG = 2048
"""DuckDB streams a lag of one vector of rows at most."""

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
        self, column: Callable[[exp.Expr], exp.Expr], columns: Mapping[str, exp.Expr], most_bars: int
    ) -> None:
        """
        Args:
            column: gives an expression a column of its own, the same one for the same expression.
            columns: what the columns given so far are.
            most_bars: rows that a symbol has at most.
        """
        self._column = column
        self._columns = columns
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
            return self._back(self._named(function.this), _whole(function.args.get("offset") or exp.Literal.number(1)))
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
            return self._extreme(self._named(x), rows, "greatest" if name == "max" else "least")
        if name in ("sum", "avg"):
            count, total = self._count(x, rows), self._sum(self._without_null(x), rows)
            quotient = f"/ {_sql(count)}" if name == "avg" else ""
            return _parsed(f"case when {_sql(count)} > 0 then {_sql(total)} {quotient} end")
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
        back = self._back(self._named(value), rows)
        return _parsed(f"coalesce({_sql(back)}, 0)") if function_name(function) == "count" else back

    def _count(self, x: exp.Expr, rows: int) -> exp.Expr:
        """How many values are not null."""
        if self._is_never_null(x):
            return self._named(_parsed(f"least({BAR_NUMBER}, {rows})"))
        return self._sum(self._named(_parsed(f"case when {_sql(x)} is null then 0 else 1 end")), rows)

    def _without_null(self, x: exp.Expr) -> exp.Expr:
        return self._named(x if self._is_never_null(x) else _parsed(f"coalesce({_sql(x)}, 0)"))

    def _is_never_null(self, x: exp.Expr) -> bool:
        x = self._columns.get(x.name, x) if isinstance(x, exp.Column) else x
        return isinstance(x, exp.Literal) or (isinstance(x, exp.Anonymous) and x.name.lower() == "null_as_nan")

    def _sum(self, x: exp.Expr, rows: int) -> exp.Expr:
        """The sum over the last rows of a column that is never null."""
        powers = {1: x}
        size = 1
        while size * 2 <= rows:
            powers[2 * size] = self._plus(powers[size], powers[size], size)
            size *= 2
        total, covered = powers[size], size
        while covered < rows:
            size = 1 << ((rows - covered).bit_length() - 1)
            total = self._plus(total, powers[size], covered)
            covered += size
        return total

    def _plus(self, near: exp.Expr, far: exp.Expr, rows: int) -> exp.Expr:
        return self._named(_parsed(f"{_sql(near)} + {_sql(self._back(far, rows, otherwise='0'))}"))

    def _squares(self, x: exp.Expr, rows: int) -> exp.Expr:
        """The sum of squared deviations from the mean over the last rows.

        source: Chan, Golub, LeVeque, Updating Formulae and a Pairwise Algorithm for Computing Sample Variances (1979)
        """
        values = self._without_null(x)
        nothing = _parsed("0::double")
        parts = {1: self._named(nothing)}
        size = 1
        while size * 2 <= rows:
            parts[2 * size] = self._squares_of_both(x, values, (size, parts[size]), (size, parts[size]))
            size *= 2
        covered, total = size, parts[size]
        while covered < rows:
            size = 1 << ((rows - covered).bit_length() - 1)
            total = self._squares_of_both(x, values, (covered, total), (size, parts[size]))
            covered += size
        return total

    def _squares_of_both(
        self, x: exp.Expr, values: exp.Expr, near: tuple[int, exp.Expr], far: tuple[int, exp.Expr]
    ) -> exp.Expr:
        """Of the last rows and of those before them: how many they are, and their own squares."""
        count, total, squares = self._count(x, near[0]), self._sum(values, near[0]), near[1]
        far_count, far_total, far_squares = (
            self._back(self._named(one), near[0], otherwise="0")
            for one in (self._count(x, far[0]), self._sum(values, far[0]), far[1])
        )
        n, m = _sql(count), _sql(self._named(far_count))
        apart = f"{_sql(total)} / {n} - {_sql(far_total)} / {m}"
        return self._named(
            _parsed(
                f"{_sql(squares)} + {_sql(far_squares)} + case when {n} > 0 and {m} > 0 "
                f"then ({apart}) * ({apart}) * {n} * {m} / ({n} + {m}) else 0 end"
            )
        )

    def _extreme(self, x: exp.Expr, rows: int, choose: str) -> exp.Expr:
        """The greatest or least over the last rows; that some of them count twice does not matter."""
        size = 1
        while size * 2 <= rows:
            x = self._named(_parsed(f"{choose}({_sql(x)}, {_sql(self._back(x, size))})"))
            size *= 2
        if size < rows:
            x = self._named(_parsed(f"{choose}({_sql(x)}, {_sql(self._back(x, rows - size))})"))
        return x

    def _decayed_sum(self, call: exp.Anonymous) -> exp.Expr:
        """As decayed_sum.sql has it: a bar among the first ones is scaled up by what it will have lost too much."""
        arguments = decayed_sum_arguments(call, self._columns)
        if arguments is None:
            raise NotByLagsError
        x, number, seed_bars, q = map(_sql, arguments)
        decayed = self._named(
            _parsed(
                f"case when {number} >= 1 then coalesce({x}, 0) * pow({q}, least({number} - {seed_bars}, 0)) else 0 end"
            )
        )
        size = 1
        while size < self._longest:
            back = _sql(self._back(decayed, size, otherwise="0"))
            decayed = self._named(_parsed(f"{_sql(decayed)} + pow({q}, {size}) * {back}"))
            size *= 2
        return decayed

    def _back(self, column: exp.Expr, rows: int, otherwise: str = "null") -> exp.Expr:
        """The column so many rows back within the symbol."""
        left = rows
        while left > 0:
            step = min(left, FARTHEST_LAG)
            column = self._column(_parsed(f"lag({_sql(column)}, {step}) over ()"))
            left -= step
        return _parsed(f"case when {BAR_NUMBER} > {rows} then {_sql(column)} else {otherwise} end")

    def _named(self, value: exp.Expr) -> exp.Expr:
        return self._column(value)


def _frame(spec: exp.Expr | None, longest: int) -> tuple[int, int]:
    """How many rows the frame has, and how many rows back it ends."""
    if spec is None:
        return longest, 0
    written = {name: value.upper() if isinstance(value, str) else value for name, value in spec.args.items()}
    if written["kind"] != "ROWS" or written.get("exclude") or written["start_side"] != "PRECEDING":
        raise NotByLagsError
    end = 0
    if isinstance(written["end"], exp.Expr) and written["end_side"] == "PRECEDING":
        end = _whole(written["end"])
    elif written["end"] != "CURRENT ROW":
        raise NotByLagsError
    if written["start"] == "UNBOUNDED":
        return longest, end
    if not isinstance(written["start"], exp.Expr):
        raise NotByLagsError
    rows = _whole(written["start"]) - end + 1
    if rows < 1:
        raise NotByLagsError
    return min(rows, longest), end


def _whole(value: exp.Expr) -> int:
    """The number of rows that an expression over literals gives."""
    known = simplify(value.copy(), dialect="duckdb")
    if not isinstance(known, exp.Literal) or not known.is_int:
        raise NotByLagsError
    return int(known.name)


def _sql(value: exp.Expr) -> str:
    text = value.sql("duckdb")
    return text if isinstance(value, exp.Column | exp.Literal | exp.Func | exp.Paren) else f"({text})"


def _parsed(text: str) -> exp.Expr:
    return sqlglot.parse_one(text, read="duckdb")
