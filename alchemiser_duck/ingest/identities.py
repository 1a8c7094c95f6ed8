"""Find the tickers of one company by reading renames backwards."""

from collections.abc import Collection, Iterable

from alchemiser_duck.bars import TICKER
from alchemiser_duck.ingest.corporate_actions import Action

Rename = tuple[str, str]
"""The old and the new ticker."""


def renames_in(actions: Iterable[Action]) -> frozenset[Rename]:
    """Return the renames among actions; one to itself is none."""
    return frozenset(
        (action["symbol"], action["new_symbol"])
        for action in actions
        if action["type"] == "name_change" and action["new_symbol"] not in (None, action["symbol"])
    )


def predecessors(symbols: Collection[str], renames: Collection[Rename]) -> list[str]:
    """Return the tickers that companies had before, from rename to rename, without the symbols themselves."""
    known = set(symbols)
    waiting = set(symbols)
    while waiting:
        waiting = {old for old, new in renames if new in waiting and TICKER.fullmatch(old)} - known
        known |= waiting
    return sorted(known - set(symbols))
