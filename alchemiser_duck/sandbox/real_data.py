"""The sandbox's data: real bars of AAPL, IBM, GOOG and FB.

Prices, volumes, splits and dividend amounts are real, from 2000 to 2013. By default the dates are shifted, session by
session, so that the newest bar falls on a chosen session: no gap opens, early closes land where they may. Not in the
record and derived: vwap (the mean of high, low and close), trade_count (one per 200 shares), payable and process dates
(a month after ex).
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from importlib import resources
from typing import Any

from alchemiser_duck import exchange_calendar as calendar

WireRow = dict[str, Any]


@dataclass
class MarketData:
    """The data that the stand-in serves; tests may change it."""

    bars: dict[str, dict[date, WireRow]]
    """per symbol and session: a bar as Alpaca sends it"""
    actions: dict[str, list[WireRow]]
    """per plural type: corporate actions as Alpaca sends them"""


def load(last_session: date | None) -> MarketData:
    """Load the data, its newest session moved; None keeps the original dates."""
    import pyarrow.parquet as pq

    folder = resources.files("alchemiser_duck.sandbox") / "data"
    with resources.as_file(folder / "real_bars.parquet") as path:
        rows = pq.read_table(path).to_pylist()
    moved = _mover(sorted({row["date"] for row in rows}), last_session)
    bars: dict[str, dict[date, WireRow]] = {}
    for row in rows:
        bars.setdefault(row["symbol"], {})[moved(row["date"])] = _wire_bar(row, moved(row["date"]))
    actions = json.loads((folder / "corporate_actions.json").read_text(encoding="utf-8"))
    for listed in actions.values():
        for action in listed:
            for key in [key for key in action if key.endswith("_date")]:
                action[key] = moved(date.fromisoformat(action[key])).isoformat()
    return MarketData(bars, actions)


def _mover(original: list[date], last_session: date | None) -> Callable[[date], date]:
    """Map an original day to the day it is served as."""
    if last_session is None:
        return lambda day: day
    served = calendar.sessions(calendar.FIRST_DAY, last_session)[-len(original) :]
    position = {day: index for index, day in enumerate(original)}

    def moved(day: date) -> date:
        if day in position:
            return served[position[day]]
        return served[-1] + (day - original[-1])  # after the newest bar: an action still to come

    return moved


def _wire_bar(row: dict[str, Any], session: date) -> WireRow:
    return {
        "t": timestamp(session),
        "o": row["open"],
        "h": row["high"],
        "l": row["low"],
        "c": row["close"],
        "v": row["volume"],
        "n": max(1, row["volume"] // 200),
        "vw": round((row["high"] + row["low"] + row["close"]) / 3, 6),
    }


def timestamp(session: date) -> str:
    """Return a daily bar's stamp: midnight in New York, as UTC."""
    midnight = datetime.combine(session, time(), calendar.NEW_YORK)
    return midnight.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
