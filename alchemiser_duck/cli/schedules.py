"""Both schedules in the foreground: overnight at 04:00 UTC, post-close at 16:05 New York; or as lines for crontab."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Literal

from alchemiser_duck import exchange_calendar as calendar
from alchemiser_duck.data_refresh_service import DataRefreshService
from alchemiser_duck.errors import EmptyLake
from alchemiser_duck.ingest.run_reports import RefreshReport
from alchemiser_duck.query.session import DuckDBSession
from alchemiser_duck.settings import Settings

if TYPE_CHECKING:
    from apscheduler.schedulers.background import BackgroundScheduler
    from apscheduler.triggers.cron import CronTrigger

Say = Callable[[str], None]
"""Told what happens, a line each."""


@dataclass(frozen=True)
class Schedule:
    """When one kind of refresh runs."""

    mode: Literal["overnight", "post_close"]
    hour: int
    minute: int
    days: str
    """of the week, as cron writes them"""
    timezone: str
    command: str

    def fires_after(self, moment: datetime) -> datetime:
        """The next time it is due, at or after a moment."""
        fires: datetime = self.trigger.get_next_fire_time(None, moment)
        return fires

    def fired_before(self, moment: datetime) -> datetime:
        """The last time it was due, at or before a moment."""
        due = self.fires_after(moment - timedelta(days=5))  # longer than any weekend
        while (later := self.fires_after(due + timedelta(seconds=1))) <= moment:
            due = later
        return due

    @property
    def trigger(self) -> "CronTrigger":
        """When it is due, for APScheduler."""
        from apscheduler.triggers.cron import CronTrigger

        return CronTrigger.from_crontab(self.cron, timezone=self.timezone)

    @property
    def cron(self) -> str:
        """When it is due, in cron's five fields, in its own time zone."""
        return f"{self.minute} {self.hour} * * {self.days}"


OVERNIGHT = Schedule("overnight", 4, 0, "*", "UTC", "refresh --mode overnight")
POST_CLOSE = Schedule("post_close", 16, 5, "mon-fri", "America/New_York", "refresh --mode post-close --wait")
SCHEDULES = (OVERNIGHT, POST_CLOSE)


def cron_lines(program: str) -> list[str]:
    """Lines for a crontab that knows CRON_TZ (cronie; Debian's cron does not: set the machine's zone there)."""
    lines = ["# cron has an environment of its own: set MARKET_DATA_BUCKET, AWS and Alpaca variables above these lines"]
    for schedule in SCHEDULES:
        lines += [f"CRON_TZ={schedule.timezone}", f"{schedule.cron} {program} {schedule.command}"]
    return lines


class Runner:
    """Runs the schedules until it is stopped; a run that fails is said and the next one comes all the same."""

    def __init__(self, settings: Settings, say: Say, on_error: Say) -> None:
        self._settings = settings
        self._say = say
        self._on_error = on_error

    def run(self, wait_for_stop: Callable[[], object]) -> None:
        """Catch up on what was missed, then run both schedules until `wait_for_stop` returns."""
        scheduler = self.start()
        try:
            wait_for_stop()
        finally:
            scheduler.shutdown(wait=True)  # a run in progress ends by itself

    def start(self, now: datetime | None = None) -> "BackgroundScheduler":
        """The running scheduler, runs that were missed before it among its jobs."""
        from apscheduler.schedulers.background import BackgroundScheduler

        logging.getLogger("apscheduler").setLevel(logging.ERROR)
        # a run that was due while the machine slept comes once, however late
        scheduler = BackgroundScheduler(
            timezone="UTC", job_defaults={"coalesce": True, "misfire_grace_time": None, "max_instances": 1}
        )
        for schedule in SCHEDULES:
            scheduler.add_job(self.refresh, schedule.trigger, [schedule], id=schedule.mode)
        now = now or calendar.utc_now()
        for schedule in self.missed(now):
            self._say(f"{schedule.mode}: was due at {schedule.fired_before(now)} and did not run: it does now")
            scheduler.add_job(self.refresh, None, [schedule, now], id=f"{schedule.mode}-missed")
        scheduler.start()
        for schedule in SCHEDULES:
            self._say_next(schedule)
        return scheduler

    def missed(self, now: datetime) -> list[Schedule]:
        """The schedules that have not run since they were last due, and still have something to do."""
        missed = []
        for schedule in SCHEDULES:
            due = schedule.fired_before(now)
            is_over = schedule is POST_CLOSE and calendar.new_york_date(due) != calendar.new_york_date(now)
            if not is_over and not self._has_run(schedule, due):
                missed.append(schedule)  # after its day, the post-close bar is the overnight refresh's
        return missed

    def refresh(self, schedule: Schedule, now: datetime | None = None) -> RefreshReport | None:
        """One run; None where it failed as a whole."""
        report = None
        try:
            service = DataRefreshService(self._settings)
            run = service.overnight if schedule is OVERNIGHT else partial(service.post_close, wait=True)
            report = run(now=now)
            self._say(f"{schedule.mode}: {report.note or report.summary}")
            for failure in report.failures:
                self._on_error(f"{schedule.mode}: {failure}")
        except Exception as problem:  # noqa: BLE001 (whatever one run does, the next one must come)
            self._on_error(f"{schedule.mode}: {type(problem).__name__}: {problem}")
        self._say_next(schedule)
        return report

    def _say_next(self, schedule: Schedule) -> None:
        self._say(f"{schedule.mode}: next run {schedule.fires_after(calendar.utc_now()):%Y-%m-%d %H:%M %Z}")

    def _has_run(self, schedule: Schedule, since: datetime) -> bool:
        query = (
            "select 1 from refresh_runs "
            "where date >= $2::timestamptz::date and mode = $1 and started_at >= $2 and status <> 'failed'"
        )
        try:
            rows = DuckDBSession(self._settings).snapshot(query, [schedule.mode, since])
        except EmptyLake:
            return False
        return len(rows) > 0
