"""What is known of a panel's columns before they are computed: where nulls are, and from which bar on they are read."""

from collections.abc import Mapping, Set

from sqlglot import exp

from alchemiser_duck.panel.newest import frame_bounds, runs_by_symbol_in_time


class NotCountedError(Exception):
    """The rows of a frame, or of a lag, are not given as a number."""


class PanelFacts:
    """Facts about the columns of a panel."""

    def __init__(
        self, panel: Mapping[str, exp.Expr], needed: Set[str], wanted: Set[str], whole: Mapping[str, bool]
    ) -> None:
        """
        Args:
            panel: what the columns are, each after those that it reads.
            needed: those that are computed.
            wanted: those that are the result.
            whole: columns of the source without a null; true: they are doubles.
        """
        self.panel = panel
        self.whole = whole
        self._missing_in: dict[str, int | None] = {}
        self._read_from = dict.fromkeys(wanted, 1)
        for name in reversed(list(panel)):  # what reads a column comes after it
            if name in needed:
                self._note_reads(panel[name], self.read_from(name) if is_arithmetic(panel[name]) else 1)

    def read_from(self, name: str) -> int:
        """The first bar of a symbol on which anything can depend on the column's value."""
        return self._read_from.get(name, 1)

    def missing(self, x: exp.Expr) -> int | None:
        """How many of a symbol's first values are null, where no later one can be; None: any may be."""
        match x:
            case exp.Column() if x.name in self.panel and not x.table:
                if x.name not in self._missing_in:
                    self._missing_in[x.name] = self.missing(self.panel[x.name])
                return self._missing_in[x.name]
            case exp.Column():
                return 0 if x.name in self.whole else None
            case exp.Window():
                return self._missing_of_window(x.this)
            case exp.Paren() | exp.Neg() | exp.Abs():
                return self.missing(x.this)
            case exp.Add() | exp.Sub() | exp.Mul() | exp.Div():
                return self._most_missing(x.left, x.right)
            case exp.Case() if x.args.get("default"):
                return self._most_missing(x.args["default"], *(branch.args["true"] for branch in x.args["ifs"]))
        never = isinstance(x, exp.Literal) or (isinstance(x, exp.Anonymous) and x.name.lower() == "null_as_nan")
        return 0 if never else None

    def _missing_of_window(self, function: exp.Expr) -> int | None:
        if isinstance(function, exp.Lag) and not function.args.get("default"):
            missing = self.missing(function.this)
            return None if missing is None else missing + lag_rows(function)
        return 0 if isinstance(function, exp.RowNumber) else None

    def _most_missing(self, *values: exp.Expr) -> int | None:
        counts = [self.missing(value) for value in values]
        return None if None in counts else max(count for count in counts if count is not None)

    def holds_from(self, condition: exp.Expr) -> int | None:
        """The bar from which on the condition holds, and before which it does not; None: it is not of that kind."""
        condition = condition.unnest()
        if not isinstance(condition, exp.GTE | exp.GT | exp.EQ):
            return None
        value, least = condition.left.unnest(), whole_number(condition.right)
        if isinstance(value, exp.Sub):
            less = whole_number(value.right)
            value, least = value.left.unnest(), None if less is None or least is None else least + less
        counted = self._counted(value)
        if counted is None or least is None:
            return None
        bars, most = counted
        least += isinstance(condition, exp.GT)
        if least < 1 or (isinstance(condition, exp.EQ) and least != most) or (most is not None and least > most):
            return None
        return least + bars

    def fails_from(self, condition: exp.Expr) -> int | None:
        """The bar from which on the condition does not hold, and before which it does; None: it is not of that kind."""
        condition = condition.unnest()
        if isinstance(condition, exp.LTE):
            return self.holds_from(exp.GT(this=condition.left, expression=condition.right))
        if isinstance(condition, exp.LT):
            return self.holds_from(exp.GTE(this=condition.left, expression=condition.right))
        return None

    def _counted(self, x: exp.Expr) -> tuple[int, int | None] | None:
        """(bars, most): the column is the bar's number less so many bars, at least 0 and `most` at most."""
        made = self.panel.get(x.name) if isinstance(x, exp.Column) and not x.table else None
        if not isinstance(made, exp.Window) or not runs_by_symbol_in_time(made):
            return None
        if isinstance(made.this, exp.RowNumber):
            return 0, None
        if not isinstance(made.this, exp.Count):
            return None
        missing = 0 if isinstance(made.this.this, exp.Star) else self.missing(made.this.this)
        try:
            rows, shift = frame_rows(made.args.get("spec"))
        except NotCountedError:
            return None
        return None if missing is None else (missing + shift, rows)

    def _note_reads(self, value: exp.Expr, bar: int) -> None:
        """Note what an expression reads that is looked at from a bar on."""
        if isinstance(value, exp.Column):
            name = value.table or value.name
            self._read_from[name] = min(bar, self._read_from.get(name, bar))
        elif isinstance(value, exp.Case) and value.this is None:
            for branch in value.args["ifs"]:
                self._note_reads(branch.this, bar)
                self._note_reads(branch.args["true"], max(bar, self._holds_only_from(branch.this)))
                bar = max(bar, self.fails_from(branch.this) or 1)
            if value.args.get("default"):
                self._note_reads(value.args["default"], bar)
        else:
            for part in value.iter_expressions():
                self._note_reads(part, bar)

    def _holds_only_from(self, condition: exp.Expr) -> int:
        """A bar before which the condition does not hold."""
        condition = condition.unnest()
        if isinstance(condition, exp.And):
            return max(self._holds_only_from(condition.left), self._holds_only_from(condition.right))
        return self.holds_from(condition) or 1


def is_arithmetic(value: exp.Expr) -> bool:
    """Whether it gives a value for any numbers, and no error but for whole ones that grow too large."""
    match value:
        case exp.Column() | exp.Literal():
            return True
        case exp.Paren() | exp.Neg():
            return is_arithmetic(value.this)
        case exp.Add() | exp.Sub() | exp.Mul() | exp.Div():
            return is_arithmetic(value.left) and is_arithmetic(value.right)
        case exp.Anonymous() if value.name.lower() in ("nan_as_null", "null_as_nan"):
            return is_arithmetic(value.expressions[0])
    return not value.find(exp.Column)


def lag_rows(lag: exp.Expr) -> int:
    """How many rows a lag goes back.

    Raises:
        NotCountedError: no number says so.
    """
    return _counted(lag.args.get("offset") or exp.Literal.number(1))


def frame_rows(spec: exp.Expr | None) -> tuple[int | None, int]:
    """How many rows a frame has (None: all up to its end), and how many rows back it ends.

    Raises:
        NotCountedError: no numbers say so, or it is always empty.
    """
    bounds = frame_bounds(spec)
    if bounds is None:
        raise NotCountedError
    start, end = bounds
    back = 0 if end is None else _counted(end)
    rows = None if start is None else _counted(start) - back + 1
    if rows is not None and rows < 1:
        raise NotCountedError
    return rows, back


def _counted(value: exp.Expr) -> int:
    number = whole_number(value)
    if number is None:
        raise NotCountedError
    return number


def whole_number(value: exp.Expr) -> int | None:
    """The whole number that an expression over literals gives; None: it is none."""
    match value:
        case exp.Literal() if value.is_int:
            return int(value.name)
        case exp.Paren():
            return whole_number(value.this)
        case exp.Add() | exp.Sub() | exp.Mul() | exp.IntDiv():
            left, right = whole_number(value.left), whole_number(value.right)
            if left is None or right is None or (isinstance(value, exp.IntDiv) and right == 0):
                return None
            if isinstance(value, exp.Add):
                return left + right
            if isinstance(value, exp.Sub):
                return left - right
            return left * right if isinstance(value, exp.Mul) else left // right
    return None
