"""Read the symbols that SQL compares with its column `symbol`."""

import re
from collections.abc import Iterator

import sqlglot
from sqlglot import exp
from sqlglot.errors import ParseError, TokenError

_UNPARSEABLE = re.compile(
    r"\bcomment\s+on\s+(?:macro\s+table|macro|view)\s+\w+\s+is\s+'(?:[^']|'')*'|"
    r"\bcreate\s+(?:or\s+replace\s+)?(?:temp(?:orary)?\s+)?(?:macro|function)\s+\w+\s*\([^()]*\)\s*as(?:\s+table)?\b",
    re.I,
)
"""DuckDB's statements about macros, which sqlglot does not know."""


class NotSql(ValueError):
    """The text does not parse; line and column count from 1."""

    def __init__(self, problem: str, line: int, column: int) -> None:
        super().__init__(problem)
        self.line = line
        self.column = column


def symbol_literals(text: str) -> list[tuple[str, int]]:
    """Return the text literals compared with `symbol`, each with its offset.

    `symbol = 'SPY'`, `'SPY' = symbol`, `symbol <> 'SPY'`, `symbol in ('SPY')` and `symbol = any(…)` count.
    Empty where the SQL is about every symbol.

    Raises:
        NotSql: the text does not parse.
    """
    parseable = _UNPARSEABLE.sub(lambda statement: re.sub(r"\S", " ", statement.group()), text)  # offsets stay
    try:
        trees = [tree for tree in sqlglot.parse(parseable, read="duckdb") if tree is not None]
    except ParseError as problem:
        first = problem.errors[0]
        raise NotSql(first["description"], first["line"], first["col"]) from None
    except TokenError as problem:
        raise NotSql(str(problem).splitlines()[0], 1, 1) from None
    return [literal for tree in trees for literal in _compared(tree)]


def _compared(tree: exp.Expr) -> Iterator[tuple[str, int]]:
    for comparison in tree.find_all(exp.EQ, exp.NEQ, exp.In, exp.Any):
        sides = [comparison.this, comparison.args.get("expression"), *comparison.expressions]
        if any(isinstance(side, exp.Column) and side.name.lower() == "symbol" for side in sides):
            for literal in (part for side in sides if side is not None for part in side.find_all(exp.Literal)):
                if literal.is_string:
                    yield literal.this, int(literal.meta.get("start", 0))
