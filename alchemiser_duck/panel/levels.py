"""Which columns of a panel are computed in which SELECT: as few SELECTs as there can be, each with few columns.

Every SELECT hands on every column that a later one reads, vector by vector: of a panel with many windows that is a
fifth of the work.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace

from sqlglot import exp

from alchemiser_duck.panel.newest import is_windowed

Level = tuple[int, int]
"""(windows below, SELECTs since those): what has a window in it is on SELECT 0."""

_OURS = re.compile(r"\bc\d+\b")
_NOT_PLAIN = re.compile(r"['\"]|\bc\d+\.")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of ours: c1, c2, …"""

    text: str
    reads: frozenset[str]
    has_window: bool
    is_lag: bool
    """over rows that are in order, which costs less than to hand a column on"""
    is_plain: bool
    """whether c1 in the text is always the column: no string, no field of a struct, and no function of the layer, which
    names its argument more than once"""

    @classmethod
    def of(cls, value: exp.Expr, text: str, reads: Iterable[str]) -> "Column":
        is_lag = isinstance(value, exp.Window) and isinstance(value.this, exp.Lag) and not value.args.get("order")
        is_plain = not _NOT_PLAIN.search(text) and not value.find(exp.Anonymous)
        return cls(text, frozenset(reads), is_windowed(value), is_lag, is_plain)

    def with_parts(self, parts: "Mapping[str, Column]") -> "Column":
        """The column with these written out where it names them."""
        text = _OURS.sub(lambda name: f"({parts[name[0]].text})" if name[0] in parts else name[0], self.text)
        reads = (self.reads - parts.keys()).union(*(part.reads for part in parts.values()))
        has_window = self.has_window or any(part.has_window for part in parts.values())
        return replace(self, text=text, reads=reads, has_window=has_window)


def ctes(
    columns: Mapping[str, Column], wanted: Set[str], keys: Sequence[str], source: str, label: str
) -> Iterator[tuple[str, str]]:
    """The CTEs that compute columns, one from the other: the name of each, and its text.

    Args:
        columns: all to compute, each after those that it reads.
        wanted: those that are read afterwards, of these columns or the source's.
        keys: columns of the source that all of them hand on.
        label: what their names begin with.
    """
    computed = selects(columns, wanted)
    for number, new in enumerate(computed):
        later = computed[number + 1 :]
        used = set(wanted).union(*(column.reads for values in later for column in values.values())) - set(keys)
        is_there = used.difference(new, *later)
        made = (f"{column.text} as {name}" for name, column in new.items())
        listed = ",\n        ".join([*keys, *sorted(is_there), *made])
        name = f"{label}_{number}"
        yield name, f"{name} as (\n    select\n        {listed}\n    from {source}\n)"
        source = name


def selects(columns: Mapping[str, Column], wanted: Set[str]) -> list[dict[str, Column]]:
    """The columns each SELECT computes, one SELECT after the other.

    Args:
        columns: all to compute, each after those that it reads.
        wanted: those that are read afterwards. Others need not become columns: what is named once is written where it
            is named, and so is a lag.
    """
    kept: dict[str, Column] = {}
    levels: dict[str, Level] = {}
    named = {name: Counter(_OURS.findall(column.text)) for name, column in columns.items()}
    left = Counter(name for times in named.values() for name in times.elements())
    for name, column in columns.items():
        parts = {}
        if column.is_plain and not column.has_window:
            parts = {
                part: kept[part]
                for part, times in named[name].items()
                if times == 1 and part in kept and part not in wanted and _merges(kept[part], left[part])
            }
        kept[name], taken = _merged(column, parts, levels)
        levels[name] = _level(kept[name], levels)
        for part in taken:
            left[part] -= 1
            if not left[part]:
                del kept[part]
    _postpone(kept, levels)
    return [
        {name: column for name, column in kept.items() if levels[name] == level}
        for level in sorted({levels[name] for name in kept})
    ]


def _merges(part: Column, times: int) -> bool:
    return part.is_plain and (times == 1 or part.is_lag)


def _merged(column: Column, parts: Mapping[str, Column], levels: Mapping[str, Level]) -> tuple[Column, Set[str]]:
    """The column with its parts written out, and which of them are: windows only where they do not have to wait."""
    depth, _ = _level(column, levels)
    merged = column.with_parts(parts)
    if _level(merged, levels)[0] != depth:
        parts = {name: part for name, part in parts.items() if not part.has_window}
        merged = column.with_parts(parts)
    return merged, parts.keys()


def _level(column: Column, levels: Mapping[str, Level]) -> Level:
    depth, step = max((levels.get(name, (0, 0)) for name in column.reads), default=(0, 0))
    return (depth + 1, 0) if column.has_window else (depth, step + 1)


def _postpone(kept: dict[str, Column], levels: dict[str, Level]) -> None:
    """What no window reads is computed after the last window, all together."""
    last = max((depth for depth, _ in levels.values()), default=0)
    read_by_windows: set[str] = set()
    for name, column in reversed(kept.items()):
        if name in read_by_windows or column.has_window:
            read_by_windows |= column.reads
    for name, column in kept.items():
        if name not in read_by_windows and not column.has_window:
            depth, step = max([(last, 0), *(levels[read] for read in column.reads if read in kept)])
            levels[name] = (depth, step + 1)
