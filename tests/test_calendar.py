"""Which bars can be complete, and when."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alchemiser_duck import Settings
from alchemiser_duck import exchange_calendar as calendar
from alchemiser_duck.errors import BadParameter
from alchemiser_duck.query.introspection import Introspection
from alchemiser_duck.query.session import DuckDBSession
from alchemiser_duck.sandbox import Sandbox

MOMENTS = st.integers(0, 34 * 365 * 86_400).map(
    lambda seconds: datetime(2001, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
)

OFFLINE: dict[int, Introspection] = {}
"""A session for each delay; none of them ever asks S3."""


@pytest.mark.parametrize(
    "day",
    [date(2001, 9, 11), date(2012, 10, 29), date(2018, 12, 5), date(2025, 1, 9), date(2025, 7, 4), date(2025, 7, 5)],
)
def test_closures_are_no_sessions(day: date) -> None:
    assert not calendar.is_session(day)
    assert calendar.sessions(day, day) == []


@pytest.mark.parametrize(
    ("session", "close"),
    [
        (date(2025, 1, 2), datetime(2025, 1, 2, 21, tzinfo=UTC)),  # winter
        (date(2025, 7, 1), datetime(2025, 7, 1, 20, tzinfo=UTC)),  # summer
        (date(2025, 11, 28), datetime(2025, 11, 28, 18, tzinfo=UTC)),  # early close
        (date(2025, 3, 10), datetime(2025, 3, 10, 20, tzinfo=UTC)),  # the Monday after DST began
    ],
)
def test_closes_know_dst_and_early_closes(session: date, close: datetime) -> None:
    assert calendar.session_close(session) == close


@pytest.mark.parametrize(
    ("now", "minutes", "complete", "final"),
    [
        (datetime(2025, 7, 15, 19, 59, 59, tzinfo=UTC), 0, date(2025, 7, 14), date(2025, 7, 14)),
        (datetime(2025, 7, 15, 20, 0, tzinfo=UTC), 0, date(2025, 7, 15), date(2025, 7, 14)),
        (datetime(2025, 7, 15, 20, 5, tzinfo=UTC), 15, date(2025, 7, 14), date(2025, 7, 14)),
        (datetime(2025, 7, 15, 20, 15, tzinfo=UTC), 15, date(2025, 7, 15), date(2025, 7, 14)),
        (datetime(2025, 7, 16, 0, 14, 59, tzinfo=UTC), 15, date(2025, 7, 15), date(2025, 7, 14)),
        (datetime(2025, 7, 16, 0, 15, tzinfo=UTC), 15, date(2025, 7, 15), date(2025, 7, 15)),
        (datetime(2025, 7, 16, 8, 0, tzinfo=UTC), 15, date(2025, 7, 15), date(2025, 7, 15)),
        (datetime(2025, 11, 28, 18, 15, tzinfo=UTC), 15, date(2025, 11, 28), date(2025, 11, 26)),  # early close
        (datetime(2025, 11, 30, 12, 0, tzinfo=UTC), 15, date(2025, 11, 28), date(2025, 11, 28)),  # Sunday
        (
            datetime(2001, 9, 15, 12, 0, tzinfo=UTC),
            15,
            date(2001, 9, 10),
            date(2001, 9, 10),
        ),  # exchange closed for days
    ],
)
def test_last_complete_and_last_final_session(now: datetime, minutes: int, complete: date, final: date) -> None:
    delay = timedelta(minutes=minutes)
    assert calendar.last_complete_session(now, delay) == complete
    assert calendar.last_final_session(now, delay) == final


@given(MOMENTS, st.integers(0, 30))
def test_the_reader_s_last_session_is_the_calendar_s(shared_box: Sandbox, now: datetime, delay: int) -> None:
    """SQL over the sessions known at release, beside exchange_calendars; right up to the next close."""
    settings = Settings.from_environment(MARKET_DATA_BUCKET="none", ALPACA_SIP_DELAY_MINUTES=str(delay))
    offline = OFFLINE.setdefault(delay, Introspection(DuckDBSession(settings)))
    known = offline.complete_session(now)
    for moment in (now, known.begins, known.ends - timedelta(microseconds=1)):
        assert known.date == calendar.last_complete_session(moment, timedelta(minutes=delay))
    assert known.date < calendar.last_complete_session(known.ends, timedelta(minutes=delay))


def test_a_clock_beyond_the_known_sessions_stops_loudly(shared_box: Sandbox) -> None:
    settings = Settings.from_environment(MARKET_DATA_BUCKET="none")
    offline = OFFLINE.setdefault(0, Introspection(DuckDBSession(settings)))
    with pytest.raises(BadParameter, match="outside the sessions"):
        offline.complete_session(datetime(2050, 1, 1, tzinfo=UTC))
