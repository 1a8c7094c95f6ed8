"""Asks DuckDB about definitions alone: columns, literals, sessions known at release. S3 is not asked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any

from alchemiser_duck.errors import BadParameter
from alchemiser_duck.query.connection import empty_lake
from alchemiser_duck.query.literals import identifier, literal
from alchemiser_duck.query.session import DuckDBSession, stand_in
from alchemiser_duck.query.statement import Lens
from alchemiser_duck.query.translation import translated

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class CompleteSession:
    """The newest complete session, and from when until when it is the newest."""

    date: date
    begins: datetime
    ends: datetime


class Introspection:
    """What a session's definitions say; each question is asked once. Safe to share between threads."""

    def __init__(self, session: DuckDBSession) -> None:
        self._session = session
        self._columns: dict[str, dict[str, str]] = {}
        self._values: dict[str, tuple[Any, ...]] = {}

    def columns_of(self, call: str) -> dict[str, str]:
        """Give the columns of a relation or of a table macro's call, and their types.

        Raises:
            QueryFailed: there is no such relation or macro.
        """
        if call not in self._columns:
            connection = self._session.connection(names=call)
            connection.execute(f"set variable market_data = {literal(empty_lake())}")
            with translated():
                rows = connection.execute(f"describe select * from {call}").fetchall()
            self._columns[call] = {row[0]: row[1] for row in rows}
        return self._columns[call]

    def evaluate(self, expressions: Sequence[tuple[str, Mapping[str, str]]]) -> Sequence[Any]:
        """Evaluate SQL expressions, each over named SQL literals: the header lines of the .sql files.

        Raises:
            QueryFailed: one is not an expression.
        """
        texts = [
            f"(select {expression} from (select {_listed(values)}))" if values else f"({expression})"
            for expression, values in expressions
        ]
        query = f"select {', '.join(texts)}"
        if query not in self._values:
            with translated():
                names = " ".join(expression for expression, _ in expressions)  # a literal may be a view's name
                self._values[query] = self._session.connection(names=names).execute(query).fetchall()[0]
        return self._values[query]

    def complete_session(self, now: datetime) -> CompleteSession:
        """Find the newest session whose close the feed can have shown by now.

        From the sessions known at release: without S3, and without the second that exchange_calendars takes to import.

        Raises:
            BadParameter: the time lies outside of them.
        """
        files = {"sessions": stand_in("sessions")}
        row = (
            self._session.connection(Lens(now=now), names="sessions", files=files)
            .execute(
                """
                with shown as (
                    select date, close + to_minutes(getvariable('sip_delay_minutes')::integer) as visible from sessions
                )
                select
                    max(date) filter (visible <= getvariable('now')),
                    epoch_us(max(visible) filter (visible <= getvariable('now'))),
                    epoch_us(min(visible) filter (visible > getvariable('now')))
                from shown
                """
            )
            .fetchone()
        )
        if row is None or None in row:
            raise BadParameter(f"{now} lies outside the sessions that are known, 2000 to 2040")
        day, begins, ends = row
        return CompleteSession(day, moment(begins), moment(ends))


@lru_cache(maxsize=20_000)
def moment(microseconds: int) -> datetime:
    """Turn epoch_us of a TIMESTAMPTZ into a datetime: as such it is slow to fetch, and many rows share it."""
    return _EPOCH + timedelta(microseconds=microseconds)


def _listed(values: Mapping[str, str]) -> str:
    return ", ".join(f"{text} as {identifier(name)}" for name, text in values.items())
