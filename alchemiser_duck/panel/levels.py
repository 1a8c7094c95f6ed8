"""Distribute a panel's columns over as few SELECTs as possible.

A SELECT hands on every column that a later one reads, vector by vector: of a panel with many windows that is a fifth of
the work. A column's level is (windows below it, SELECTs since those). Of `c1 = close - open`, `c2 = lag(c1)` and
`c3 = c2 / 2`, the first is on level (0, 1), the lag on (1, 0), and c3 on (1, 1): three SELECTs.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace

from sqlglot import exp

from alchemiser_duck.query.sql_trees import is_windowed

Level = tuple[int, int]
"""(windows below, SELECTs since those): a column with a window in it is on SELECT 0."""

_OUR_COLUMN = re.compile(r"\bc\d+\b")
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
    """c1 in the text is always the column: no string, no field of a struct, and no function of the layer, which names
    its argument more than once"""

    @classmethod
    def of(cls, value: exp.Expr, text: str, reads: Iterable[str]) -> "Column":
        """Describe an expression and its text."""
        is_lag = isinstance(value, exp.Window) and isinstance(value.this, exp.Lag) and not value.args.get("order")
        is_plain = not _NOT_PLAIN.search(text) and not value.find(exp.Anonymous)
        return cls(text, frozenset(reads), is_windowed(value), is_lag, is_plain)

    def with_parts(self, parts: "Mapping[str, Column]") -> "Column":
        """Return the column with these written out where it names them."""
        text = _OUR_COLUMN.sub(lambda name: f"({parts[name[0]].text})" if name[0] in parts else name[0], self.text)
        reads = (self.reads - parts.keys()).union(*(part.reads for part in parts.values()))
        has_window = self.has_window or any(part.has_window for part in parts.values())
        return replace(self, text=text, reads=reads, has_window=has_window)


def ctes(
    columns: Mapping[str, Column], wanted: Set[str], keys: Sequence[str], source: str, label: str
) -> Iterator[tuple[str, str]]:
    """Yield name and text of the CTEs that compute columns.

    Args:
        columns: all to compute, each after those that it reads.
        wanted: those that are read afterwards, of these columns or the source's.
        keys: columns of the source that every CTE hands on.
        label: the beginning of their names.
    """
    computed = selects(columns, wanted)
    for number, new in enumerate(computed):
        later = computed[number + 1 :]
        read_later = set(wanted).union(*(column.reads for values in later for column in values.values())) - set(keys)
        handed_on = sorted(read_later.difference(new, *later))
        projections = (f"{column.text} as {name}" for name, column in new.items())
        listed = ",\n        ".join([*keys, *handed_on, *projections])
        name = f"{label}_{number}"
        yield name, f"{name} as (\n    select\n        {listed}\n    from {source}\n)"
        source = name


def selects(columns: Mapping[str, Column], wanted: Set[str]) -> list[dict[str, Column]]:
    """Return the columns that each SELECT computes, one SELECT after the other.

    Args:
        columns: all to compute, each after those that it reads.
        wanted: those that are read afterwards. Others need not become columns: a column that is named once is written
            where it is named, and so is a lag.
    """
    kept: dict[str, Column] = {}
    levels: dict[str, Level] = {}
    names_in = {name: Counter(_OUR_COLUMN.findall(column.text)) for name, column in columns.items()}
    uses_left = Counter(name for names in names_in.values() for name in names.elements())
    for name, column in columns.items():
        parts = {}
        if column.is_plain and not column.has_window:
            parts = {
                part: kept[part]
                for part, times in names_in[name].items()
                if times == 1 and part in kept and part not in wanted and _merges(kept[part], uses_left[part])
            }
        kept[name], merged = _merged(column, parts, levels)
        levels[name] = _level(kept[name], levels)
        for part in merged:
            uses_left[part] -= 1
            if not uses_left[part]:
                del kept[part]
    _postpone(kept, levels)
    return [
        {name: column for name, column in kept.items() if levels[name] == level}
        for level in sorted({levels[name] for name in kept})
    ]


def _merges(part: Column, uses: int) -> bool:
    return part.is_plain and (uses == 1 or part.is_lag)


def _merged(column: Column, parts: Mapping[str, Column], levels: Mapping[str, Level]) -> tuple[Column, Set[str]]:
    """Write parts out in a column; windows must not have to wait."""
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
    """Move the columns that no window reads behind the last window."""
    last = max((depth for depth, _ in levels.values()), default=0)
    read_by_windows: set[str] = set()
    for name, column in reversed(kept.items()):
        if name in read_by_windows or column.has_window:
            read_by_windows |= column.reads
    for name, column in kept.items():
        if name not in read_by_windows and not column.has_window:
            depth, step = max([(last, 0), *(levels[read] for read in column.reads if read in kept)])
            levels[name] = (depth, step + 1)
