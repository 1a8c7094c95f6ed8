"""Locations in files: line and column of what is read."""

import re
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from alchemiser_duck.errors import MalformedFile


@dataclass(frozen=True, slots=True, order=True)
class SourceLocation:
    """A character of a file; lines and columns count from 1."""

    path: Path
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}"

    def malformed(self, problem: str) -> MalformedFile:
        """Return the error that something here is wrong; raise it."""
        return MalformedFile(f"{self}: {problem}")


def locator(path: Path, text: str) -> Callable[[int], SourceLocation]:
    """Return a function from offsets in a text to locations."""
    starts = [0, *(newline.end() for newline in re.finditer("\n", text))]

    def locate(offset: int) -> SourceLocation:
        line = bisect_right(starts, offset)
        return SourceLocation(path, line, offset - starts[line - 1] + 1)

    return locate


class LocatedStr(str):
    """A text that knows where in its file it stands."""

    __slots__ = ("location",)
    location: SourceLocation

    def __new__(cls, text: str, location: SourceLocation) -> "LocatedStr":
        """Attach a location to a text."""
        located = super().__new__(cls, text)
        located.location = location
        return located
