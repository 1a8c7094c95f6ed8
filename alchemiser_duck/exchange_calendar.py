"""The exchange calendar (XNYS): sessions, their closes, complete bars.

Every answer takes the time it is asked for; nothing here reads a clock. `closures` are days on which the exchange does
not trade and that the calendar does not know yet: a day of mourning is announced a week before.
"""

from collections.abc import Collection
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    import pyarrow as pa
    from exchange_calendars import ExchangeCalendar

NEW_YORK = ZoneInfo("America/New_York")

FIRST_DAY = date(1990, 1, 1)
LAST_DAY = date(2060, 12, 31)
"""Sessions before the first and after the last of these days are not known."""

SESSIONS_FROM = date(2000, 1, 1)
"""The relation sessions begins here."""

LONGEST_CLOSURE = timedelta(days=60)
"""No closure has been longer since 1914."""

EXTENDED_CLOSE = time(20)
"""End of the extended session in New York: until then a daily bar's volume grows."""


def utc_now() -> datetime:
    """Return the clock's time, the default everywhere."""
    return datetime.now(UTC)


@cache
def _xnys() -> "ExchangeCalendar":
    import exchange_calendars  # a second of imports, only paid where a session is asked for

    return exchange_calendars.get_calendar("XNYS", start=FIRST_DAY.isoformat(), end=LAST_DAY.isoformat())


def sessions(first: date, last: date, closures: Collection[date] = ()) -> list[date]:
    """List the sessions from first to last, both included; maybe none."""
    known = _xnys().sessions
    days = [stamp.date() for stamp in known[known.slice_indexer(first.isoformat(), last.isoformat())]]
    return [day for day in days if day not in closures] if closures else days


def session_table(first: date, last: date, closures: Collection[date] = ()) -> "pa.Table":
    """Return the rows of the relation `sessions` from first to last.

    Columns: date, open, close (UTC), is_early_close.
    """
    import pyarrow as pa

    known = _xnys().schedule.loc[first.isoformat() : last.isoformat(), ["open", "close"]]
    known = known[[stamp.date() not in closures for stamp in known.index]]
    instant = pa.timestamp("us", tz="UTC")
    return pa.table(
        {
            "date": pa.array(known.index.date, pa.date32()),
            "open": pa.array(known["open"]).cast(instant),
            "close": pa.array(known["close"]).cast(instant),
            "is_early_close": pa.array(known.index.isin(_xnys().early_closes)),
        }
    )


def known_sessions(now: datetime, closures: Collection[date] = ()) -> "pa.Table":
    """Return the relation `sessions`: from SESSIONS_FROM to the end of next year."""
    return session_table(SESSIONS_FROM, date(new_york_date(now).year + 1, 12, 31), closures)


def is_session(day: date, closures: Collection[date] = ()) -> bool:
    """Return whether the exchange trades on this day."""
    return bool(sessions(day, day, closures))


def session_open(session: date) -> datetime:
    """Return the moment that the session opens, UTC."""
    opens: datetime = _xnys().session_open(session.isoformat()).to_pydatetime()
    return opens


def session_close(session: date) -> datetime:
    """Return the moment that the session closes, UTC, early closes included."""
    closes: datetime = _xnys().session_close(session.isoformat()).to_pydatetime()
    return closes


def new_york_date(moment: datetime) -> date:
    """Return the calendar day in New York."""
    return moment.astimezone(NEW_YORK).date()


def complete_from(session: date, delay: timedelta) -> datetime:
    """Return the moment from which a bar holds its close.

    delay: how far the feed lags. On 2025-07-15 and a delay of 15 minutes: 16:15 in New York.
    """
    return session_close(session) + delay


def last_complete_session(now: datetime, delay: timedelta, closures: Collection[date] = ()) -> date:
    """Return the newest session whose close the feed has shown."""
    today = new_york_date(now)
    recent = sessions(today - LONGEST_CLOSURE, today, closures)
    return next(session for session in reversed(recent) if complete_from(session, delay) <= now)


def last_final_session(now: datetime, delay: timedelta, closures: Collection[date] = ()) -> date:
    """Return the newest session whose extended hours the feed has shown."""
    day = new_york_date(now - delay)
    if (now - delay).astimezone(NEW_YORK).time() < EXTENDED_CLOSE:
        day -= timedelta(days=1)
    return sessions(day - LONGEST_CLOSURE, day, closures)[-1]


def span_start(period: str, last: date) -> date | None:
    """Give the first day of a calendar span that ends with a day; None means no bound.

    Args:
        period: <n>Y, <n>M, <n>W or <n>D, or MAX. A year back from 2024-02-29 begins on 2023-03-01.
    """
    from dateutil.relativedelta import relativedelta

    if period == "MAX":
        return None
    unit = {"Y": "years", "M": "months", "W": "weeks", "D": "days"}[period[-1]]
    try:
        first: date = last - relativedelta(**{unit: int(period[:-1])}) + timedelta(days=1)  # type: ignore[arg-type]
    except (ValueError, OverflowError):  # before the first year there is
        return None
    return first
