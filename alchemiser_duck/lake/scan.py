"""One read of the lake as a value: which objects, of which years, and how much of each.

A `Scan` is made before anything is fetched; the mirror decides from it, once, between local copies and ranges over
httpfs.
"""

from dataclasses import dataclass
from datetime import date

MEBIBYTE = 1 << 20

FEW_SYMBOLS = 20
"""A read of more symbols than this needs most row groups of a partition."""
FEW_SYMBOLS_LIMIT = 32 * MEBIBYTE
"""A read of few symbols copies objects up to this: more bytes than it needs are cheaper than more round trips."""
UNIVERSE_LIMIT = 192 * MEBIBYTE
"""A read of many symbols needs most of each object: two years of the whole US market are 140 MiB."""

BAR_KEYS = frozenset({"symbol", "date", "timestamp"})
"""Columns that every read of bars needs; next to nothing."""
BAR_VALUES = frozenset({"open", "high", "low", "close", "vwap", "volume", "trade_count"})

_ROW_GROUPS_OF_A_SYMBOL = 0.05
"""About which part of a partition's row groups holds one symbol."""


@dataclass(frozen=True, slots=True)
class Projection:
    """The part of a partition that a read needs."""

    columns: frozenset[str]
    """besides BAR_KEYS"""
    symbols: tuple[str, ...] | None = None
    """None means all"""

    @property
    def share(self) -> float:
        """About which part of an object's bytes that is, from 0 to 1."""
        columns = len(self.columns & BAR_VALUES) / len(BAR_VALUES)
        return columns if self.symbols is None else columns * min(1, _ROW_GROUPS_OF_A_SYMBOL * len(self.symbols))


@dataclass(frozen=True, slots=True)
class Scan:
    """The bars that a read needs, on top of the small objects that it names."""

    since: date | None = None
    """the first day to read; None means the first there is"""
    as_of: date | None = None
    """the last day to see; None means the last there is"""
    symbols: tuple[str, ...] | None = None
    """None means every symbol"""
    columns: frozenset[str] | None = None
    """of BAR_VALUES; None means all, and others that may be stored"""
    may_lack_actions: bool = False
    """True for who writes the lake's corporate actions: until then there may be none, or those of before"""

    @property
    def is_wide(self) -> bool:
        """Tell reads of many symbols from those of a few."""
        return self.symbols is None or len(self.symbols) > FEW_SYMBOLS

    @property
    def limit(self) -> int:
        """Bytes of bars to copy at most; beyond it DuckDB reads ranges over httpfs."""
        return UNIVERSE_LIMIT if self.is_wide else FEW_SYMBOLS_LIMIT

    @property
    def projection(self) -> Projection | None:
        """The part of each partition that is needed; None means all of it."""
        if self.columns is None:
            return None
        return Projection(self.columns, None if self.is_wide else self.symbols)

    def sees(self, year: int) -> bool:
        """Tell whether a partition of that year can hold a bar of this read."""
        return (self.since is None or year >= self.since.year) and (self.as_of is None or year <= self.as_of.year)
