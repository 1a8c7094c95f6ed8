"""Find the tickers of one company by following renames."""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from alchemiser_duck.bars import TICKER, AlteredBar
from alchemiser_duck.ingest.bar_overrides import FIELDS
from alchemiser_duck.ingest.corporate_actions import Action


class Rename(NamedTuple):
    """A company's old and new ticker, and the first day of the new one."""

    old: str
    new: str
    day: date


def renames_in(actions: Iterable[Action]) -> frozenset[Rename]:
    """Return the renames among actions; one to itself is none."""
    return frozenset(
        Rename(action["symbol"], action["new_symbol"], action["ex_date"])
        for action in actions
        if action["type"] == "name_change"
        and action["new_symbol"] not in (None, action["symbol"])
        and not (action["is_announced"] or action["withdrawn_at"] or action["override"] == "drop")
    )


def predecessors(symbols: Collection[str], renames: Collection[Rename]) -> list[str]:
    """Return the tickers that companies had before, from rename to rename, without the symbols themselves."""
    known = set(symbols)
    waiting = set(symbols)
    while waiting:
        waiting = {old for old, new, _ in renames if new in waiting and TICKER.fullmatch(old)} - known
        known |= waiting
    return sorted(known - set(symbols))


def later_tickers(renames: Collection[Rename]) -> dict[Rename, list[str]]:
    """Follow each rename to the tickers that the company has had since, oldest first.

    One whose old ticker another company has taken over by a rename is left out: the vendor shows that one's bars.
    """
    by_old: dict[str, list[Rename]] = {}
    for rename in sorted(renames, key=lambda rename: rename.day):
        by_old.setdefault(rename.old, []).append(rename)
    taken = {(rename.new, rename.day) for rename in renames}
    followed = {}
    for rename in renames:
        if any(new == rename.old and day >= rename.day for new, day in taken):
            continue
        tickers, last = [rename.new], rename
        while following := next((after for after in by_old.get(last.new, ()) if after.day > last.day), None):
            tickers.append(following.new)
            last = following
        followed[rename] = tickers
    return followed


@dataclass(frozen=True)
class OneCompany:
    """Bars of a partition without those that are there a second time, under an older ticker of the same company."""

    stored: pa.Table | None
    incoming: pa.Table
    left: tuple[AlteredBar, ...]
    """stored bars that were taken out and that the newer ticker's are not equal to"""

    @staticmethod
    def of(stored: pa.Table | None, incoming: pa.Table, renamed: Mapping[Rename, list[str]]) -> "OneCompany":
        """Look for them.

        Args:
            renamed: as later_tickers gives it.
        """
        tables = [incoming] if stored is None else [stored, incoming]
        names = {name for table in tables for name in pc.unique(table["symbol"]).to_pylist()}
        here = {rename: later for rename, later in renamed.items() if rename.old in names and names & set(later)}
        if not here:
            return OneCompany(stored, incoming, ())
        days = pa.concat_tables([table.select(["symbol", "date"]) for table in tables])
        twice = [_counted_twice(table, days, here) for table in tables]
        kept = [table.filter(pc.invert(mask)) for table, mask in zip(tables, twice, strict=True)]
        left = (
            ()
            if stored is None
            else _unequal(
                stored.filter(twice[0]),
                pa.concat_tables([table.select(["symbol", "timestamp", "date", *FIELDS]) for table in kept]),
                here,
            )
        )
        return OneCompany(None if stored is None else kept[0], kept[-1], left)


def _counted_twice(bars: pa.Table, days: pa.Table, renamed: Mapping[Rename, list[str]]) -> pa.ChunkedArray:
    twice = pa.chunked_array([pa.repeat(False, len(bars))])
    for (old, _, day), tickers in renamed.items():
        theirs = days.filter(pc.is_in(days["symbol"], pa.array(tickers, pa.string())))["date"]
        before = pc.and_(pc.equal(bars["symbol"], old), pc.less(bars["date"], day))
        twice = pc.or_(twice, pc.and_(before, pc.is_in(bars["date"], theirs.combine_chunks())))
    return twice


def _unequal(left: pa.Table, kept: pa.Table, renamed: Mapping[Rename, list[str]]) -> tuple[AlteredBar, ...]:
    names = {rename.old: later for rename, later in renamed.items()}
    later = pa.array({name for names_of in names.values() for name in names_of}, pa.string())
    counting: dict[date, dict[str, str]] = {}
    for row in kept.filter(pc.is_in(kept["symbol"], later)).to_pylist():
        counting.setdefault(row["date"], {})[row["symbol"]] = values_of(row)
    return tuple(
        AlteredBar(row["symbol"], row["timestamp"], f"the company is {names[row['symbol']][-1]} now", values_of(row))
        for row in left.to_pylist()
        if values_of(row) not in (counting[row["date"]].get(name) for name in names[row["symbol"]])
    )


def values_of(row: Mapping[str, object]) -> str:
    """Write the values of a bar as JSON."""
    return json.dumps({name: row[name] for name in FIELDS})
