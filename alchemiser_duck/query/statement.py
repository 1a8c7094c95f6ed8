"""A query as a value: its text, what it names, and the lens that it looks through."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

Parameters = Sequence[Any] | Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Lens:
    """What a connection sees of the lake: bars from `since` on, the world as it stood at the close of `as_of`."""

    since: date | None = None
    as_of: date | None = None
    now: datetime | None = None
    """the time it is for freshness; None means the clock's"""


EVERYTHING = Lens()
"""Sees all that is stored."""


@dataclass(frozen=True, slots=True)
class Query:
    """A SELECT and what it needs to run."""

    text: str
    names: str | None
    """SQL that names what it needs of the layer; None means all of it"""
    lens: Lens = EVERYTHING
    parameters: Parameters = None
    tables: "Mapping[str, pa.Table]" = field(default_factory=dict)
    """Arrow tables that it reads by these names"""
    is_cacheable: bool = False
    """the same text over the same objects gives the same rows: it asks neither for the time nor for random numbers"""
