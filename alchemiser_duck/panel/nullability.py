"""Analyse a panel's columns: leading nulls, first bar that matters.

`close / lag(close, 5) - 1` has 5 leading nulls where the close has none; `case when bar >= 20 then mean end` looks at
`mean` from bar 20 on, so a window of 20 bars need not check that it is full there. Bars of a symbol count from 1.
"""

import operator
from collections.abc import Callable, Mapping, Set

from sqlglot import exp

from alchemiser_duck.panel.newest import expanded, frame_bounds, is_formula, runs_by_symbol_in_time

_WHOLE_NUMBERS: Mapping[type[exp.Expr], Callable[[int, int], int]] = {
    exp.Add: operator.add,
    exp.Sub: operator.sub,
    exp.Mul: operator.mul,
    exp.IntDiv: operator.floordiv,
}


class UnknownRowCount(Exception):
    """The number of rows is not known before the query runs."""


class Nullability:
    """Tells where columns are null, and from which bar on they matter."""

    def __init__(
        self, columns: Mapping[str, exp.Expr], needed: Set[str], wanted: Set[str], never_null: Mapping[str, bool]
    ) -> None:
        """Follow the reads of every column from the result back.

        Args:
            columns: the expressions of the panel's columns, each after those that it reads.
            needed: those that are computed.
            wanted: those that are the result.
            never_null: columns of the source without a null; true where they are doubles.
        """
        self.columns = columns
        self.never_null = never_null
        self._leading_nulls: dict[str, int | None] = {}
        self._live_from = dict.fromkeys(wanted, 1)
        for name in reversed(list(columns)):  # what reads a column comes after it
            if name in needed:
                self._note_reads(columns[name], self.live_from(name) if is_arithmetic(columns[name]) else 1)

    def live_from(self, name: str) -> int:
        """Return the first bar on which anything depends on the column."""
        return self._live_from.get(name, 1)

    def leading_nulls(self, x: exp.Expr) -> int | None:
        """Return how many first values are null; None means any may be."""
        match x:
            case exp.Column() if x.name in self.columns and not x.table:
                if x.name not in self._leading_nulls:
                    self._leading_nulls[x.name] = self.leading_nulls(self.columns[x.name])
                return self._leading_nulls[x.name]
            case exp.Column():
                return 0 if x.name in self.never_null else None
            case exp.Window(this=exp.Lag() as lag) if not lag.args.get("default"):
                nulls, rows = self.leading_nulls(lag.this), whole_number(lag_offset(lag))
                return None if nulls is None or rows is None else nulls + rows
            case exp.Window():
                return 0 if isinstance(x.this, exp.RowNumber) else None
            case exp.Coalesce() if x.expressions and self.leading_nulls(x.expressions[-1]) == 0:
                return 0
            case exp.Case() if x.args.get("default"):
                branches = [x.args["default"], *(branch.args["true"] for branch in x.args["ifs"])]
                counts = {self.leading_nulls(branch) for branch in branches}
                return counts.pop() if len(counts) == 1 else None  # which branch it is, the data tell
            case exp.Anonymous() if is_formula(x):
                return self.leading_nulls(expanded(x))
        operands = _operands(x)
        known = [nulls for operand in operands or () if (nulls := self.leading_nulls(operand)) is not None]
        return None if operands is None or len(known) < len(operands) else max(known, default=0)

    def true_from(self, condition: exp.Expr) -> int | None:
        """Return the bar from which on the condition is true.

        Before that bar it is not true. None means another kind of condition. `bar >= 20` is true from bar 20 on, and so
        is `count(close) over (… rows 19 preceding) = 20`.
        """
        condition = condition.unnest()
        if not isinstance(condition, exp.GTE | exp.GT | exp.EQ):
            return None
        value, least = condition.left.unnest(), whole_number(condition.right)
        if isinstance(value, exp.Sub):
            less = whole_number(value.right)
            value, least = value.left.unnest(), None if less is None or least is None else least + less
        counter = self._counter(value)
        if counter is None or least is None:
            return None
        bars, most = counter
        least += isinstance(condition, exp.GT)
        if least < 1 or (isinstance(condition, exp.EQ) and least != most) or (most is not None and least > most):
            return None
        return least + bars

    def _false_from(self, condition: exp.Expr) -> int | None:
        """Return the bar from which on a true condition is false."""
        condition = condition.unnest()
        if not isinstance(condition, exp.LTE | exp.LT):
            return None
        opposite = exp.GT if isinstance(condition, exp.LTE) else exp.GTE
        return self.true_from(opposite(this=condition.left, expression=condition.right))

    def _counter(self, x: exp.Expr) -> tuple[int, int | None] | None:
        """Return (bars, most) of a column: the bar's number less bars, at most `most`."""
        window = self.columns.get(x.name) if isinstance(x, exp.Column) and not x.table else None
        if not isinstance(window, exp.Window) or not runs_by_symbol_in_time(window):
            return None
        if isinstance(window.this, exp.RowNumber):
            return 0, None
        if not isinstance(window.this, exp.Count):
            return None
        nulls = 0 if isinstance(window.this.this, exp.Star) else self.leading_nulls(window.this.this)
        try:
            rows, shift = frame_rows(window.args.get("spec"))
        except UnknownRowCount:
            return None
        return None if nulls is None else (nulls + shift, rows)

    def _note_reads(self, value: exp.Expr, bar: int) -> None:
        """Note what an expression reads that matters from a bar on."""
        if isinstance(value, exp.Column):
            name = value.table or value.name
            self._live_from[name] = min(bar, self._live_from.get(name, bar))
        elif isinstance(value, exp.Case) and value.this is None:
            for branch in value.args["ifs"]:
                self._note_reads(branch.this, bar)
                self._note_reads(branch.args["true"], max(bar, self._not_true_before(branch.this)))
                bar = max(bar, self._false_from(branch.this) or 1)
            if value.args.get("default"):
                self._note_reads(value.args["default"], bar)
        else:
            for part in value.iter_expressions():
                self._note_reads(part, bar)

    def _not_true_before(self, condition: exp.Expr) -> int:
        condition = condition.unnest()
        if isinstance(condition, exp.And):
            return max(self._not_true_before(condition.left), self._not_true_before(condition.right))
        return self.true_from(condition) or 1


def _operands(x: exp.Expr) -> list[exp.Expr] | None:
    """Return what x is computed of if it is null just where one of these is; None means another kind."""
    match x:
        case exp.Literal():
            return []
        case exp.Paren() | exp.Neg() | exp.Abs():
            return [x.this]
        case exp.Cast() if x.is_type("double") and not isinstance(x, exp.TryCast):
            return [] if isinstance(x.this, exp.Literal) else [x.this]
        case exp.Add() | exp.Sub() | exp.Mul() | exp.Div() | exp.GT() | exp.GTE() | exp.LT() | exp.LTE():
            return [x.left, x.right]
    return None


def is_arithmetic(value: exp.Expr) -> bool:
    """Return whether it gives a value for any numbers.

    Its only error is a whole number that grows too large.
    """
    match value:
        case exp.Column() | exp.Literal():
            return True
        case exp.Paren() | exp.Neg():
            return is_arithmetic(value.this)
        case exp.Add() | exp.Sub() | exp.Mul() | exp.Div():
            return is_arithmetic(value.left) and is_arithmetic(value.right)
        case exp.Anonymous() if is_formula(value):  # none of them can fail
            return all(map(is_arithmetic, value.expressions))
    return not value.find(exp.Column)


def lag_offset(lag: exp.Expr) -> exp.Expr:
    """Return how many rows a lag goes back, as an expression."""
    return lag.args.get("offset") or exp.Literal.number(1)


def known_rows(value: exp.Expr) -> int:
    """Return the number of rows that an expression gives.

    Raises:
        UnknownRowCount: it is not known before it runs.
    """
    number = whole_number(value)
    if number is None:
        raise UnknownRowCount
    return number


def frame_rows(spec: exp.Expr | None) -> tuple[int | None, int]:
    """Return a frame's rows, and how many rows back it ends.

    `rows between 4 preceding and 1 preceding` is (4, 1). None means all rows up to its end.

    Raises:
        UnknownRowCount: it is not known before it runs, or the frame is always empty.
    """
    bounds = frame_bounds(spec)
    if bounds is None:
        raise UnknownRowCount
    start, end = bounds
    back = 0 if end is None else known_rows(end)
    rows = None if start is None else known_rows(start) - back + 1
    if rows is not None and rows < 1:
        raise UnknownRowCount
    return rows, back


def whole_number(value: exp.Expr) -> int | None:
    """Evaluate `greatest(2 * 10 - 1, 0)`; None means no whole number."""
    if isinstance(value, exp.Literal):
        return int(value.name) if value.is_int else None
    if isinstance(value, exp.Paren):
        return whole_number(value.this)
    if isinstance(value, exp.Greatest):
        numbers = [whole_number(part) for part in (value.this, *value.expressions)]
        known = [number for number in numbers if number is not None]
        return max(known) if len(known) == len(numbers) else None
    operation = _WHOLE_NUMBERS.get(type(value))
    if operation is None or not isinstance(value, exp.Binary):
        return None
    left, right = whole_number(value.left), whole_number(value.right)
    if left is None or right is None or (right == 0 and isinstance(value, exp.IntDiv)):
        return None
    return operation(left, right)
