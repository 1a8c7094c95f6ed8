"""Bars that a complete answer of the vendor's no longer contains: what becomes of them.

A ticker is given to another company, and the vendor sends the new one's bars alone: the former owner's are kept as a
series of its own, RNA-202602 after the month in which the new one began. A single bar that is gone leaves the series
and stays findable in altered_bars. What comes back is put back.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc

from alchemiser_duck.bars import FORMER, AlteredBar
from alchemiser_duck.ingest.identities import values_of
from alchemiser_duck.ingest.merge import BAR_SCHEMA, MergedPartition

GONE_AT_LEAST = 3
"""Bars before an answer's first that must be gone, to tell another company from a gap."""

MOST_GONE = 0.2
"""An answer that lacks bars of more than this part of its symbols is taken for a failure of the vendor."""


@dataclass(frozen=True)
class Answered:
    """A complete answer: its sessions, and the first bar of each symbol in it."""

    first: date
    last: date
    begins: Mapping[str, date]

    @staticmethod
    def of(symbols: pa.ChunkedArray, days: pa.ChunkedArray, first: date, last: date) -> "Answered":
        """Describe an answer by its bars."""
        begins = pa.table({"symbol": symbols, "date": days}).group_by("symbol").aggregate([("date", "min")])
        return Answered(
            first, last, dict(zip(begins["symbol"].to_pylist(), begins["date_min"].to_pylist(), strict=True))
        )


def former_name(symbol: str, begins: date) -> str:
    """Name the series of those who had a ticker before its owner of today began."""
    return f"{symbol}-{begins:%Y%m}"


@dataclass(frozen=True)
class Departures:
    """Findings on what an answer lacks."""

    former: dict[str, date] = field(default_factory=dict)
    """tickers whose bars before a day are a former owner's"""
    problem: str | None = None


def without_departed(
    merged: MergedPartition, arrived: pa.Table, answered: Answered
) -> tuple[MergedPartition, Departures]:
    """Take what an answer lacks out of a merged partition.

    Args:
        merged: the stored bars with those of the answer among them.
        arrived: symbol and date of every bar of the answer, those turned away too.
    """
    bars = _without_returned(merged.bars, arrived)
    names = pa.array(answered.begins, pa.string())
    may_be = bars.filter(
        pc.and_(
            pc.and_(pc.is_in(bars["symbol"], names), bars["is_final"]),
            pc.and_(pc.greater_equal(bars["date"], answered.first), pc.less_equal(bars["date"], answered.last)),
        )
    )
    gone = may_be.join(arrived, ["symbol", "date"], join_type="left anti")
    merged = replace(merged, bars=bars)
    if not gone.num_rows:
        return merged, Departures()
    rows = gone.to_pylist()
    symbols = {row["symbol"] for row in rows}
    if len(symbols) > max(GONE_AT_LEAST, MOST_GONE * len(answered.begins)):
        problem = f"the answer lacks stored bars of {len(symbols)} symbols ({', '.join(sorted(symbols)[:3])}, …)"
        return merged, Departures(problem=f"{problem}: it is not believed, nothing was removed")
    before = [row for row in rows if row["date"] < answered.begins[row["symbol"]]]
    counts = {symbol: sum(row["symbol"] == symbol for row in before) for symbol in symbols}
    former = {symbol: answered.begins[symbol] for symbol, count in counts.items() if count >= GONE_AT_LEAST}
    kept = [
        row | {"symbol": former_name(row["symbol"], former[row["symbol"]])} for row in before if row["symbol"] in former
    ]
    noted = tuple(
        AlteredBar(row["symbol"], row["timestamp"], _reason(row["symbol"], former), values_of(row)) for row in rows
    )
    left = bars.join(gone.select(["symbol", "date"]), ["symbol", "date"], join_type="left anti").select(
        BAR_SCHEMA.names
    )
    whole = pa.concat_tables([left.cast(BAR_SCHEMA), pa.Table.from_pylist(kept, schema=BAR_SCHEMA)])
    by_symbol = whole.sort_by([("symbol", "ascending"), ("timestamp", "ascending")])
    return replace(merged, bars=by_symbol, replaced=(*merged.replaced, *noted)), Departures(former)


def relabelled(stored: pa.Table | None, former: Mapping[str, date]) -> MergedPartition | None:
    """Give a former owner's bars their own name; None means there are none of them."""
    if stored is None:
        return None
    symbols = stored["symbol"]
    for symbol, begins in former.items():
        theirs = pc.and_(pc.equal(stored["symbol"], symbol), pc.less(stored["date"], begins))
        symbols = pc.if_else(theirs, former_name(symbol, begins), symbols)
    if symbols.equals(stored["symbol"]):
        return None
    renamed = stored.set_column(0, BAR_SCHEMA.field("symbol"), symbols)
    return MergedPartition(renamed.sort_by([("symbol", "ascending"), ("timestamp", "ascending")]).cast(BAR_SCHEMA))


def _without_returned(bars: pa.Table, arrived: pa.Table) -> pa.Table:
    """Leave a former owner's bars out where the ticker's answer holds them again."""
    named = [name for name in pc.unique(bars["symbol"]).to_pylist() if FORMER.fullmatch(name)]
    for name in named:
        ticker = FORMER.fullmatch(name)[1]  # type: ignore[index]
        days = arrived.filter(pc.equal(arrived["symbol"], ticker))["date"]
        back = pc.and_(pc.equal(bars["symbol"], name), pc.is_in(bars["date"], days.combine_chunks()))
        bars = bars.filter(pc.invert(back))
    return bars


def _reason(symbol: str, former: Mapping[str, date]) -> str:
    if symbol in former:
        return f"of a former owner of the ticker: kept as {former_name(symbol, former[symbol])}"
    return "the vendor no longer sends it"
