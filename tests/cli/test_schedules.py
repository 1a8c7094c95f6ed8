"""Schedules without AWS, and the template for AWS: the right times, nothing missed, nothing stopped by a failure."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_line import run
from conftest import MORNING, ROOT, TUESDAY

from alchemiser_duck import CachedMarketDataAdapter, DataRefreshService, MarketDataStore, Settings
from alchemiser_duck import exchange_calendar as calendar
from alchemiser_duck.cli.schedules import OVERNIGHT, POST_CLOSE, Runner
from alchemiser_duck.lambda_handler import handler, job_of
from alchemiser_duck.sandbox import AlpacaServer, Fault, Sandbox

DEPLOY = ROOT / "alchemiser_duck" / "deploy"


def runner(settings: Settings) -> tuple[Runner, list[str], list[str]]:
    said: list[str] = []
    complained: list[str] = []
    return Runner(settings, said.append, complained.append), said, complained


@pytest.mark.parametrize(
    ("moment", "utc"),
    [
        ("2025-03-07T12:00", "2025-03-07T21:05"),  # Friday, standard time
        ("2025-03-07T22:00", "2025-03-10T20:05"),  # Monday, daylight saving time
        ("2025-10-31T12:00", "2025-10-31T20:05"),
        ("2025-10-31T22:00", "2025-11-03T21:05"),
    ],
)
def test_post_close_is_at_1605_new_york_all_year(moment: str, utc: str) -> None:
    fires = POST_CLOSE.fires_after(datetime.fromisoformat(moment).replace(tzinfo=UTC))
    assert fires.astimezone(UTC) == datetime.fromisoformat(utc).replace(tzinfo=UTC)
    assert POST_CLOSE.fired_before(fires) == fires
    assert POST_CLOSE.fired_before(fires + timedelta(hours=30)) >= fires


def test_overnight_is_at_0400_utc_every_day() -> None:
    for day in range(1, 29):
        noon = datetime(2025, 3, day, 12, tzinfo=UTC)
        assert OVERNIGHT.fired_before(noon) == datetime(2025, 3, day, 4, tzinfo=UTC)
        assert OVERNIGHT.fires_after(noon) == datetime(2025, 3, day, 4, tzinfo=UTC) + timedelta(days=1)


def test_what_was_missed_is_caught_up_once(settings: Settings) -> None:
    """Nothing ran: both are due in the evening; overnight alone after midnight, and neither once it has run."""
    one, _, _ = runner(settings)
    evening = datetime(2025, 7, 15, 21, tzinfo=UTC)
    assert one.missed(evening) == [OVERNIGHT, POST_CLOSE]
    assert one.missed(MORNING) == [OVERNIGHT]
    assert one.missed(datetime(2025, 7, 13, 12, tzinfo=UTC)) == [OVERNIGHT]  # a Sunday
    DataRefreshService(settings).overnight(["AAPL"], date(2025, 6, 2), now=datetime(2025, 7, 15, 4, tzinfo=UTC))
    assert one.missed(evening) == [POST_CLOSE]
    DataRefreshService(settings).post_close(["AAPL"], now=evening)
    assert one.missed(evening) == []
    assert one.missed(MORNING) == [OVERNIGHT]


def test_a_run_that_fails_is_said_and_the_next_one_comes(settings: Settings, alpaca: AlpacaServer) -> None:
    one, said, complained = runner(settings)
    alpaca.faults.append(Fault("status", status=401, times=99))
    assert one.refresh(OVERNIGHT, MORNING) is None
    assert "AlpacaRefused" in complained[0]
    alpaca.faults.clear()
    report = one.refresh(OVERNIGHT, MORNING)
    assert report is not None
    assert report.status == "ok"
    assert re.match(r"overnight: ok: [\d,]+ added", said[1])
    assert all(re.match(r"overnight: next run \d{4}-\d\d-\d\d 04:00 UTC", line) for line in (said[0], said[2]))


def test_a_started_scheduler_catches_up_and_waits(settings: Settings) -> None:
    one, said, _ = runner(settings)
    scheduler = one.start(MORNING)
    try:
        jobs = {job.id for job in scheduler.get_jobs()}
        assert {"overnight", "post_close"} <= jobs
        assert said[0].startswith("overnight: was due at")
        for _ in range(600):
            if any(line.startswith("overnight: ok") for line in said):
                break
            _sleep()
    finally:
        scheduler.shutdown()
    assert [line for line in said if line.startswith("overnight: ok")]
    assert CachedMarketDataAdapter(settings).sql("select mode from refresh_runs").fetchall() == [("overnight",)]


def _sleep() -> None:
    from threading import Event

    Event().wait(0.1)


def test_the_command_runs_until_it_is_stopped(box: Sandbox, settings: Settings) -> None:
    own = {"MARKET_DATA_BUCKET": settings.market_data_bucket, "ALCHEMISER_SYMBOLS": "AAPL"}
    with subprocess.Popen(
        [sys.executable, "-m", "alchemiser_duck", "schedule"],
        env=os.environ | box.environment | own,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if "post_close: next run" in line:
                break
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert any(re.search(r"overnight: next run .* 04:00 UTC", line) for line in lines)


def test_crontab_lines_have_their_time_zones(tmp_path: Path) -> None:
    printed = run({"PATH": os.environ["PATH"]}, "schedule", "--print-cron").stdout.splitlines()
    assert printed[1:] == [
        "CRON_TZ=UTC",
        "0 4 * * * alchemiser-duck refresh --mode overnight",
        "CRON_TZ=America/New_York",
        "5 16 * * mon-fri alchemiser-duck refresh --mode post-close --wait",
    ]


def test_symbols_are_extracted_from_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "a.clj").write_text('(filter (rsi {:window 10}) (select-top 1) [(asset "SPY") (asset "BTC/USD")])')
    bare = {"PATH": os.environ["PATH"]}
    ended = run(bare, "symbols", "extract", str(tmp_path), "--format", "json")
    found = {"symbol": "SPY", "indicators": ["rsi(10)"], "bars_needed": 11, "places": [f"{tmp_path}/a.clj:1:51"]}
    assert json.loads(ended.stdout) == [found]
    assert "BTC/USD is left out" in ended.stderr
    (tmp_path / "b.clj").write_text("(asset")
    broken = run(bare, "symbols", "extract", str(tmp_path))
    assert broken.returncode == 2
    assert f"{tmp_path}/b.clj:1:1" in broken.stderr


class _Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short functions, each as the value it is given."""


def _short_function(loader: yaml.SafeLoader, _: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.ScalarNode):
        return loader.construct_scalar(node)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    assert isinstance(node, yaml.MappingNode)
    return loader.construct_mapping(node, deep=True)


_Loader.add_multi_constructor("!", _short_function)


@pytest.fixture(scope="module")
def resources() -> dict[str, Any]:
    template = yaml.load((DEPLOY / "template.yaml").read_text(), _Loader)  # noqa: S506 (a SafeLoader)
    found: dict[str, Any] = template["Resources"]
    return found


def test_the_template_passes_cfn_lint() -> None:
    program = Path(sys.executable).parent / "cfn-lint"
    ended = subprocess.run([program, DEPLOY / "template.yaml"], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, "")


def test_the_bucket_is_versioned_private_and_encrypted(resources: dict[str, Any]) -> None:
    bucket = resources["Lake"]["Properties"]
    assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
    assert all(bucket["PublicAccessBlockConfiguration"].values())
    assert bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert resources["Lake"]["DeletionPolicy"] == "Retain"


def test_the_function_may_do_what_it_needs_and_no_more(resources: dict[str, Any]) -> None:
    [policy] = resources["Refresher"]["Properties"]["Policies"]
    allowed = {
        action
        for statement in policy["Statement"]
        for action in ([statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"])
    }
    assert allowed == {
        *("s3:ListBucket", "s3:GetObject", "s3:PutObject", "secretsmanager:GetSecretValue", "events:PutEvents"),
    }
    assert all("*" not in str(statement["Resource"]).replace("${Lake.Arn}/*", "") for statement in policy["Statement"])


def test_the_schedules_are_the_same_as_without_aws(resources: dict[str, Any]) -> None:
    """The same hours in the same time zones, and inputs that the handler understands."""
    events = resources["Refresher"]["Properties"]["Events"]
    for schedule, name in ((OVERNIGHT, "Overnight"), (POST_CLOSE, "PostClose")):
        properties = events[name]["Properties"]
        assert properties["ScheduleExpressionTimezone"] == schedule.timezone
        assert properties["ScheduleExpression"].startswith(f"cron({schedule.minute} {schedule.hour} ")
        event = properties["Input"].replace("<aws.scheduler.scheduled-time>", "2025-07-15T20:05:00Z")
        assert job_of(json.loads(event), "c").kind == schedule.mode


def test_the_image_runs_the_handler() -> None:
    named = re.search(r'CMD \["(.+)\.(\w+)"\]', (DEPLOY / "Dockerfile").read_text())
    assert named is not None
    assert named.groups() == (handler.__module__, handler.__name__)


def test_sessions_are_the_exchanges(settings: Settings) -> None:
    """Stored by a refresh, one row per session; closures and early closes as they were announced."""
    refresh = DataRefreshService(settings)
    report = refresh.overnight(["AAPL"], date(2025, 7, 1), now=MORNING)
    assert report.failures == ()
    adapter = CachedMarketDataAdapter(settings)
    rows = {row[0]: row[1:] for row in adapter.sql("select * from sessions order by date").fetchall()}
    assert (min(rows), max(rows)) == (date(2000, 1, 3), date(2026, 12, 31))
    assert list(rows) == calendar.sessions(date(2000, 1, 1), date(2026, 12, 31))
    for closed in ("2001-09-11", "2012-10-29", "2018-12-05", "2025-01-09", "2025-07-04", "2025-12-25"):
        assert date.fromisoformat(closed) not in rows
    assert rows[date(2025, 7, 3)] == (_utc("2025-07-03 13:30"), _utc("2025-07-03 17:00"), True)
    assert rows[TUESDAY] == (_utc("2025-07-15 13:30"), _utc("2025-07-15 20:00"), False)
    assert rows[date(2025, 1, 2)] == (_utc("2025-01-02 14:30"), _utc("2025-01-02 21:00"), False)
    before = MarketDataStore(settings)._objects.get("sessions/sessions.parquet")
    refresh.overnight(["AAPL"], date(2025, 7, 1), now=MORNING)
    after = MarketDataStore(settings)._objects.get("sessions/sessions.parquet")
    assert before == after


def _utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_sessions_are_written_again_when_a_year_begins(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings()
    store = MarketDataStore(settings)
    for year in (2026, 2027):
        store.write_sessions(calendar.session_table(date(2000, 1, 1), date(year, 12, 31)))
        found = store._session.snapshot("select max(date) from sessions").fetchall()[0]
        assert found == (date(year, 12, 31),)
