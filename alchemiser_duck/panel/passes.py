"""Cut a panel's newest row into passes, each over no more of the last bars than its indicators look back.

RSI(2) needs the last 54 bars, RSI(200) all of twenty years: in one pass, both would read twenty years. A pass costs a
scan and a join of one row per symbol, so a few aggregates that could read less stay where they are.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sqlglot import exp

from alchemiser_duck.panel.fusion import NotFusible, chain
from alchemiser_duck.query.catalogue import DEEP_FALL, STILL_BARS, UNSETTLED, PanelEntry, SqlFile
from alchemiser_duck.query.sql_trees import resolved_window

PASS_COST = 4
"""A pass over bars costs about as much as so many aggregates over them."""

SHORTEST_PASS = 64
"""Bars in the shortest pass; the next ones are twice as long each."""


@dataclass(frozen=True)
class Pass:
    """Indicators that are computed together over the last bars of each symbol."""

    entries: tuple[PanelEntry, ...]
    last_bars: int | None
    """how many bars before the newest are read; None means all"""
    symbols: tuple[str, ...] | None = None
    """those that one of the indicators is asked for; None means all"""


def passes_of(entries: Sequence[PanelEntry], source: str) -> list[Pass]:
    """Return the passes of a panel over a relation; together they hold each indicator once."""
    slid: dict[SqlFile, list[PanelEntry]] = {}
    summed = []
    for entry in entries:
        if _slides_frames(entry.call.file, source):
            slid.setdefault(entry.call.file, []).append(entry)
        else:
            summed.append(entry)
    groups = [group for family in (summed, *slid.values()) for group in _by_look_back(family)]
    return [_pass(group) for group in groups]


def _pass(entries: Sequence[PanelEntry]) -> Pass:
    look_backs = [entry.look_back for entry in entries]
    bars = None if None in look_backs else max(filter(None, look_backs), default=0)
    if bars is not None and any(entry.remembers for entry in entries):
        bars += STILL_BARS
    symbols = [entry.symbols for entry in entries]
    named = None if None in symbols else tuple(sorted(frozenset().union(*filter(None, symbols))))
    return Pass(tuple(entries), bars, named)


def bars_before(prices: Mapping[str, str], rows_after: str) -> str:
    """Write the aggregate of a symbol's bars before its newest, UNSETTLED where a look-back is not enough.

    Nothing moved for longer than STILL_BARS: an average of moves is then made of those before. Or prices fell so deep
    that what a look-back leaves out is not small beside today's.

    Args:
        prices: a price that is read: the column with the one before it.
        rows_after: the column with how many bars of the symbol come after.
    """
    count = "count(*) - 1"
    if not prices:
        return count
    stood = [
        f"coalesce(min({rows_after}) filter ({price} is distinct from {before}), count(*)) > {STILL_BARS}"
        for price, before in prices.items()
    ]
    fell = [f"max({price}) > {DEEP_FALL} * first({price}) filter ({rows_after} = 0)" for price in prices]
    return f"case when {' or '.join([*stood, *fell])} then {UNSETTLED} else {count} end"


def _by_look_back(entries: Sequence[PanelEntry]) -> Iterator[list[PanelEntry]]:
    """Split off the indicators with shorter look-backs wherever that saves more than a pass."""
    waiting = sorted(entries, key=_rounded_up, reverse=True)
    while waiting:
        longest = _rounded_up(waiting[0])
        cut = next(
            (
                number
                for number, entry in enumerate(waiting)
                if (len(waiting) - number) * (1 - _rounded_up(entry) / longest) >= PASS_COST
            ),
            len(waiting),
        )
        yield waiting[:cut]
        waiting = waiting[cut:]


def _rounded_up(entry: PanelEntry) -> float:
    """Round a look-back up, so that indicators which need about the same share a pass."""
    if entry.look_back is None:
        return math.inf
    return float(max(SHORTEST_PASS, 1 << max(0, entry.look_back - 1).bit_length()))


def _slides_frames(file: SqlFile, source: str) -> bool:
    """Return whether windows remain that do not run by symbol alone: they sort every column beside them once more."""
    try:
        steps = chain(file, source)
    except NotFusible:
        return False
    return any(
        [part.name.lower() for part in resolved_window(window, step.select)[0]] != ["symbol"]
        for step in steps
        for window in step.select.find_all(exp.Window)
        if window.find_ancestor(exp.Select) is step.select and not isinstance(window.this, exp.Identifier)
    )
