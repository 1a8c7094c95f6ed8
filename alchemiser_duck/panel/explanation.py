"""Explains a panel: the SQL that will run, and for each column its expression and how it is computed.

Whoever asks why a column is wrong starts here.
"""

from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from alchemiser_duck.lake.scan import Scan


class Executor(StrEnum):
    """How a column of a panel is computed; all of them give the same numbers."""

    NEWEST = "aggregates that end on each symbol's newest row"
    LANES = "lanes: windows over sorted rows, four bars side by side"
    WINDOWS = "windows, in one query with the others"
    AS_IT_STANDS = "its own SQL, joined by symbol and timestamp"


@dataclass(frozen=True, slots=True)
class ColumnPlan:
    """A column of a panel."""

    label: str
    executor: Executor
    expression: str
    """over the source's columns; the call where its own SQL runs"""


@dataclass(frozen=True, slots=True)
class Explanation:
    """A panel as it will run; `str()` gives all of it as commented SQL."""

    scan: Scan
    statements: tuple[tuple[str, str], ...]
    """what each is, and its text, in the order in which they run"""
    columns: tuple[ColumnPlan, ...]

    def __str__(self) -> str:
        """The statements with comments, then a paragraph for each column."""
        lines = [f"-- reads {_span(self.scan.since, self.scan.as_of)} of {_symbols(self.scan.symbols)}"]
        for title, text in self.statements:
            lines += ["", f"-- {title}", f"{text.strip()};"]
        for column in self.columns:
            lines += ["", f"-- {column.label}: {column.executor}"]
            lines += [f"--   {line}" for line in column.expression.splitlines()]
        return "\n".join(lines)


def _span(since: date | None, as_of: date | None) -> str:
    return f"bars from {since or 'the first'} to {as_of or 'the newest'}"


def _symbols(symbols: tuple[str, ...] | None) -> str:
    if symbols is None:
        return "all symbols"
    return ", ".join(symbols[:10]) + (f" and {len(symbols) - 10} more symbols" if len(symbols) > 10 else "")
