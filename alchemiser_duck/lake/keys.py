"""The keys of the lake's objects, for writers and readers alike; all are relative to the lake's prefix.

    bars/timeframe=1Day/year=2026/bars.parquet          one object: all bars of a timeframe and year
    corporate_actions/corporate_actions.parquet
    sessions/sessions.parquet
    refresh_runs/date=2026-11-26/<run>.parquet          one per run, never rewritten
    fetch_requests/<symbol>.json                        leases

Readers take exactly these: another file beside one of them is not the lake's.
"""

import re
from collections.abc import Callable
from datetime import date

ACTIONS = "corporate_actions/corporate_actions.parquet"
SESSIONS = "sessions/sessions.parquet"

CONDITIONS = "fetch_requests/conditions.json"
"""Written to find out whether the store keeps the conditions of a PUT."""

RELATIONS = {
    "bars_raw": "bars/timeframe=1Day/year=*/bars.parquet",
    "corporate_actions": ACTIONS,
    "refresh_runs": "refresh_runs/*/*.parquet",
    "sessions": SESSIONS,
}
"""Relations that read S3, and their objects. Each has a session variable of its name: the files to read instead."""

ACTIONS_VERSION = "actions_version"
"""In the metadata of the actions: a number that grows with every write. In that of bars: the one they came after.

A run stores the actions first, so bars that came after newer actions than are at hand tell of a torn read.
"""

_PARTITION = re.compile(r"bars/timeframe=(?P<timeframe>\w+)/year=(?P<year>\d{4})/bars\.parquet")


def partition(year: int, timeframe: str = "1Day") -> str:
    """Return the key of a year's bars."""
    return f"{partitions(timeframe)}year={year:04}/bars.parquet"


def partitions(timeframe: str = "1Day") -> str:
    """Return the folder of a timeframe's bars."""
    return f"bars/timeframe={timeframe}/"


def year_of(key: str, timeframe: str | None = None) -> int | None:
    """Read the year that a partition's key names; None where it is no partition, or of another timeframe."""
    match = _PARTITION.fullmatch(key)
    if match is None or timeframe not in (None, match["timeframe"]):
        return None
    return int(match["year"])


def run(started: date, run_id: str) -> str:
    """Return the key of a refresh run's record."""
    return f"refresh_runs/date={started}/{run_id}.parquet"


def lease(symbol: str) -> str:
    """Return the key of the lease on a symbol's fetch."""
    return f"fetch_requests/{symbol}.json"


def fits(pattern: str) -> Callable[[str], object]:
    """Return what tells whether a key is one of a relation's objects."""
    text = re.escape(pattern).replace(r"year=\*", r"year=\d{4}").replace(r"\*", "[^/]+")
    return re.compile(text).fullmatch
