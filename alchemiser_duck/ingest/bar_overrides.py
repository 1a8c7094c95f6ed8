"""Overrides of bars: a person's word against the vendor's, in the partition that it changes.

They stand in the partition's metadata, so that bars and overrides are one state. Every write applies them to what the
vendor sends, and keeps the vendor's own values beside them: `restore` gives those back.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from alchemiser_duck.errors import BadParameter
from alchemiser_duck.ingest.merge import BAR_SCHEMA

LABEL = "bar_overrides"
"""The key of a partition's metadata, a JSON list."""

PRICES = ("open", "high", "low", "close", "vwap")
FIELDS = (*PRICES, "volume", "trade_count")


@dataclass(frozen=True)
class BarOverride:
    """A person's word about one bar."""

    symbol: str
    session: date
    override: Literal["replace", "drop", "accept"]
    """accept: the bar is right as it is, however odd it looks"""
    values: dict[str, float]
    reason: str
    overridden_at: datetime
    vendor: dict[str, Any] | None = None
    """the bar as the vendor sent it last, in BAR_SCHEMA; None means that it sent none"""

    @property
    def key(self) -> tuple[str, date]:
        """Return the bar that it is about."""
        return self.symbol, self.session

    def bar(self) -> dict[str, Any] | None:
        """Return the bar that counts; None means that none does."""
        return None if self.override == "drop" or self.vendor is None else self.vendor | self.values


Overrides = Mapping[tuple[str, date], BarOverride]


def decoded(label: str | None) -> dict[tuple[str, date], BarOverride]:
    """Read the overrides of a partition's metadata."""
    overrides = (
        BarOverride(
            **row
            | {
                "session": date.fromisoformat(row["session"]),
                "overridden_at": datetime.fromisoformat(row["overridden_at"]),
                "vendor": row["vendor"] and _typed(row["vendor"]),
            }
        )
        for row in json.loads(label or "[]")
    )
    return {override.key: override for override in overrides}


def encoded(overrides: Overrides) -> str:
    """Write overrides as a partition's metadata."""
    return json.dumps([vars(overrides[key]) for key in sorted(overrides)], default=lambda value: value.isoformat())


def _typed(vendor: Mapping[str, Any]) -> dict[str, Any]:
    day, moment = date.fromisoformat(vendor["date"]), datetime.fromisoformat(vendor["timestamp"])
    return {**vendor, "date": day, "timestamp": moment}


def applied(bars: pa.Table, overrides: Overrides) -> tuple[pa.Table, dict[tuple[str, date], BarOverride]]:
    """Put the bars that count in the place of the vendor's, and note what the vendor sent.

    Args:
        bars: as the vendor sends them, in BAR_SCHEMA.
    """
    noted = dict(overrides)
    names = pa.array({symbol for symbol, _ in overrides}, pa.string())
    days = pa.array({day for _, day in overrides}, pa.date32())
    may_be = pc.and_(pc.is_in(bars["symbol"], names), pc.is_in(bars["date"], days))
    sent = {(row["symbol"], row["date"]): row for row in bars.filter(may_be).to_pylist()}
    found = sent.keys() & overrides.keys()
    if not found:
        return bars, noted
    for key in found:
        noted[key] = replace(overrides[key], vendor=sent[key])
    counting = [row for key, row in sent.items() if key not in found]
    counting += [bar for key in found if (bar := noted[key].bar())]
    rows = pa.Table.from_pylist(counting, schema=BAR_SCHEMA)
    return pa.concat_tables([bars.filter(pc.invert(may_be)), rows]), noted


def without(bars: pa.Table, keys: Iterable[tuple[str, date]]) -> pa.Table:
    """Leave some bars out."""
    for symbol, day in keys:
        bars = bars.filter(pc.invert(pc.and_(pc.equal(bars["symbol"], symbol), pc.equal(bars["date"], day))))
    return bars


def checked_values(values: Mapping[str, Any]) -> dict[str, float]:
    """Read the fields that an override sets.

    Raises:
        BadParameter: there is no such field, or a value is not a number above zero.
    """
    numbers: dict[str, float] = {}
    for name, value in values.items():
        if name not in FIELDS:
            raise BadParameter(f"a bar has no {name!r}; it has {', '.join(FIELDS)}")
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number) or number < 0 or (name in PRICES and not number):
            raise BadParameter(f"{name}={value} is not a number above zero; for example: --set {name}=65.10")
        numbers[name] = number if name in PRICES else int(number)
    return numbers


def require_sound(override: BarOverride) -> None:
    """Raise BadParameter unless the bar that an override makes can be one."""
    bar = override.bar()
    if bar and override.override == "replace" and bar["high"] < bar["low"]:
        raise BadParameter(
            f"{override.symbol} {override.session}: high {bar['high']:g} would be below low {bar['low']:g}; set both: "
            "--set high=… --set low=…"
        )
