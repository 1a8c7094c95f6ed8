"""Where in a file something stands: what sightings and complaints about files are made of."""

import re
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from alchemiser_duck.errors import MalformedFile


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A character of a file; lines and columns count from 1."""

    path: Path
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}"

    def malformed(self, what: str) -> MalformedFile:
        """The error that something here is not as it must be; to be raised."""
        return MalformedFile(f"{self}: {what}")


def places_in(path: Path, text: str) -> Callable[[int], Place]:
    """A function from an offset in the file's text to the place of the character there."""
    starts = [0, *(found.end() for found in re.finditer("\n", text))]

    def place(offset: int) -> Place:
        line = bisect_right(starts, offset)
        return Place(path, line, offset - starts[line - 1] + 1)

    return place


class Placed(str):
    """A text that knows where in its file it stands."""

    __slots__ = ("place",)
    place: Place

    def __new__(cls, text: str, place: Place) -> "Placed":
        """The text at a place."""
        placed = super().__new__(cls, text)
        placed.place = place
        return placed
