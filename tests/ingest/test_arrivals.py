"""However bars, renames and actions arrive, are corrected and withdrawn: a lake ends where a clean backfill does."""

import uuid
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as example_settings
from hypothesis import strategies as st
from vendor_histories import DAYS, START, serve

from alchemiser_duck import CachedMarketDataAdapter, DataRefreshService, Settings, SuspectPricesWarning
from alchemiser_duck.ingest.source import AlpacaSource
from alchemiser_duck.sandbox import AlpacaServer

SESSIONS = 40
OLD, NEW, OTHER = "OLD", "NEW", "OTHER"


@dataclass(frozen=True)
class Filed:
    """An action: on a session of one company, as a ratio of new to old shares, or as dollars a share."""

    company: str
    session: int
    ratio: float | None
    dollars: float
    version: int

    def row(self, ticker: str) -> tuple[str, dict[str, Any]]:
        day = str(DAYS[self.session])
        row: dict[str, Any] = {"id": f"{self}", "symbol": ticker, "process_date": day, "ex_date": day}
        if self.ratio is None:
            return "cash_dividends", row | {"rate": self.dollars, "special": False, "foreign": False}
        if self.ratio > 1:
            return "forward_splits", row | {"new_rate": self.ratio, "old_rate": 1}
        codes = {"old_cusip": "C1", "new_cusip": "C1"}
        return "reverse_splits", row | {"new_rate": 1, "old_rate": round(1 / self.ratio), **codes}


@dataclass(frozen=True)
class World:
    """What the vendor shows on one evening."""

    sessions: int
    actions: frozenset[Filed]
    renamed_on: int | None
    shows_old: bool
    """whether the bars before the rename still come under the old ticker, too"""

    def show(self, alpaca: AlpacaServer) -> None:
        alpaca.data.actions.clear()
        for symbol in (OLD, NEW, OTHER):
            alpaca.data.bars.pop(symbol, None)
        is_renamed = self.renamed_on is not None and self.renamed_on < self.sessions
        serve(alpaca, NEW if is_renamed else OLD, _closes(OLD)[: self.sessions])
        if is_renamed and self.shows_old:
            serve(alpaca, OLD, _closes(OLD)[: self.renamed_on])
        serve(alpaca, OTHER, _closes(OTHER)[: self.sessions])
        for action in self.actions:
            was_old = action.company == OLD and not (is_renamed and action.session >= (self.renamed_on or 0))
            kind, row = action.row(OTHER if action.company == OTHER else OLD if was_old else NEW)
            alpaca.data.actions.setdefault(kind, []).append(row)
        if is_renamed:
            day = str(DAYS[self.renamed_on or 0])
            row = {"id": "renamed", "process_date": day, "old_symbol": OLD, "new_symbol": NEW}
            alpaca.data.actions["name_changes"] = [row | {"old_cusip": "C1", "new_cusip": "C1"}]


def _closes(company: str) -> list[float]:
    """Prices that fall by half in the middle, as if split."""
    return [round((100 if day < 20 else 50) * (1 + 0.01 * ((day * len(company)) % 7)), 2) for day in range(SESSIONS)]


FILED = st.builds(
    Filed,
    company=st.sampled_from([OLD, OTHER]),
    session=st.sampled_from([5, 19, 20, 21, 30]),
    ratio=st.sampled_from([None, 2.0, 3.0, 0.5]),
    dollars=st.sampled_from([0.5, 0.52, 3.0, 500.0]),
    version=st.integers(1, 2),
)


@st.composite
def histories(draw: Callable[..., Any]) -> list[World]:
    """Draw evenings one after another; the vendor's word of the last is the truth."""
    renamed_on = draw(st.sampled_from([None, 12, 20, 25]))
    pool = draw(st.lists(FILED, min_size=1, max_size=5, unique=True))
    counts = sorted(draw(st.lists(st.sampled_from([6, 15, 20, 21, 26, 33]), max_size=3)))
    return [
        World(
            count,
            frozenset(action for action in pool if action.session < count and draw(st.booleans())),
            renamed_on,
            draw(st.booleans()),
        )
        for count in [*counts, SESSIONS]
    ]


def end_of(settings: Settings, alpaca: AlpacaServer, worlds: list[World], evenings: list[bool]) -> tuple[Any, Any]:
    """Refresh a new lake on each of the evenings; return its adjusted bars and what became of each action."""
    service = DataRefreshService(settings, source=AlpacaSource(settings, attempts=2, first_wait_seconds=0.02))
    sent_ids, sent_closes = set(), set()
    for world, has_evening in zip(worlds, evenings, strict=True):
        world.show(alpaca)
        last = DAYS[world.sessions - 1]
        if has_evening:
            service.post_close([OLD, NEW, OTHER], now=datetime(last.year, last.month, last.day, 21, 30, tzinfo=UTC))
        report = service.overnight([OLD, NEW, OTHER], START, now=morning_after(last))
        assert report.failures == ()
        sent_ids |= {row["id"] for rows in alpaca.data.actions.values() for row in rows}
        sent_closes |= {(day, row["c"]) for bars in alpaca.data.bars.values() for day, row in bars.items() if row["v"]}
    adapter = CachedMarketDataAdapter(settings, clock=lambda: morning_after(DAYS[SESSIONS - 1]))
    actions = adapter.sql("select id, status, price_factor, withdrawn_at is null from corporate_actions").fetchall()
    assert {row[0] for row in actions} == sent_ids, "an action is lost"
    stored = set(adapter.sql("select date, close from bars_raw").fetchall())
    ours = {(day, close) for day, close in sent_closes if day in DAYS[:SESSIONS]}
    assert {(day, close) for day, close in ours if close in (*_closes(OLD), *_closes(OTHER))} <= stored, "a bar is lost"
    twice = f"select date from bars where symbol <> '{OTHER}' group by date having count(*) > 1"
    assert adapter.sql(twice).fetchall() == [], "one company counts twice"
    bars = adapter.sql("from bars order by symbol, date").fetchall()
    return bars, sorted(row[:3] for row in actions if row[3])


def morning_after(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, 9, tzinfo=UTC) + timedelta(days=1)


def check(make_settings: Callable[..., Settings], alpaca: AlpacaServer, worlds: list[World], evening: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SuspectPricesWarning)
        ends = [
            end_of(new_lake(make_settings), alpaca, sequence, [evening] * len(sequence))
            for sequence in (worlds, worlds[-1:])
        ]
    assert ends[0][1] == ends[1][1]
    assert ends[0][0] == ends[1][0]


def new_lake(make_settings: Callable[..., Settings]) -> Settings:
    return make_settings(MARKET_DATA_BUCKET=f"{make_settings().bucket}/{uuid.uuid4().hex}")


relaxed = example_settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@example_settings(relaxed, max_examples=6)
@given(worlds=histories(), evening=st.booleans())
def test_any_history_ends_in_the_state_of_a_clean_backfill(
    make_settings: Callable[..., Settings], alpaca: AlpacaServer, worlds: list[World], evening: bool
) -> None:
    check(make_settings, alpaca, worlds, evening)


@pytest.mark.slow
@example_settings(relaxed, max_examples=20)
@given(worlds=histories(), evening=st.booleans())
def test_many_histories_end_in_the_state_of_a_clean_backfill(
    make_settings: Callable[..., Settings], alpaca: AlpacaServer, worlds: list[World], evening: bool
) -> None:
    check(make_settings, alpaca, worlds, evening)
