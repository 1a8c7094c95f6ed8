"""The Lambda handler takes every event and answers it, on the wire."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import boto3
import pytest
from conftest import MORNING, TUESDAY

from alchemiser_duck import CachedMarketDataAdapter, DataRefreshService, MarketDataStore, Settings, lambda_handler
from alchemiser_duck import exchange_calendar as calendar
from alchemiser_duck.lambda_handler import handler
from alchemiser_duck.sandbox import AlpacaServer, Fault, Sandbox
from alchemiser_duck.sandbox.alpaca_server import KEY_ID, SECRET_KEY

OVERNIGHT = "2025-07-16T04:00:00Z"


@dataclass
class Context:
    """The context of an invocation."""

    aws_request_id: str = "request-1"
    remaining: Callable[[], int] = lambda: 900_000

    def get_remaining_time_in_millis(self) -> int:
        return self.remaining()


@pytest.fixture
def lake(box: Sandbox, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Set up the environment of a deployed function; moto is AWS."""
    own = {"MARKET_DATA_BUCKET": settings.market_data_bucket, "ALCHEMISER_SYMBOLS": "AAPL,IBM"}
    variables = box.environment | own | {"AWS_ENDPOINT_URL": box.s3_url, "ALPACA_REQUESTS_PER_MINUTE": "100000"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    lambda_handler._secret.cache_clear()
    return settings


@pytest.fixture
def published(lake: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Return a function that receives newly published events from a queue."""
    events, queues = boto3.client("events"), boto3.client("sqs")
    name = f"bus-{lake.bucket}"
    events.create_event_bus(Name=name)
    queue = queues.create_queue(QueueName=f"queue-{lake.bucket}")["QueueUrl"]
    arn = queues.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    events.put_rule(Name=f"rule-{lake.bucket}", EventBusName=name, EventPattern='{"source": ["alchemiser-duck"]}')
    events.put_targets(Rule=f"rule-{lake.bucket}", EventBusName=name, Targets=[{"Id": "queue", "Arn": arn}])
    monkeypatch.setenv("EVENT_BUS_NAME", name)

    def received() -> list[dict[str, Any]]:
        messages = queues.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", [])
        for message in messages:
            queues.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
        return [json.loads(message["Body"]) for message in messages]

    yield received
    events.remove_targets(Rule=f"rule-{lake.bucket}", EventBusName=name, Ids=["queue"])
    events.delete_rule(Name=f"rule-{lake.bucket}", EventBusName=name)
    events.delete_event_bus(Name=name)
    queues.delete_queue(QueueUrl=queue)


def invoke(event: Any, context: Any = None) -> tuple[int, dict[str, Any]]:
    answer = handler(event, context or Context())
    assert set(answer) == {"statusCode", "body"}
    return answer["statusCode"], json.loads(answer["body"])


def overnight(start: str = "2025-01-01", **fields: Any) -> dict[str, Any]:
    return {"mode": "overnight", "start": start, "time": OVERNIGHT, "id": "event-1", **fields}


def test_the_scheduled_overnight_refresh_stores_and_tells(
    lake: Settings, published: Callable[[], list[dict[str, Any]]]
) -> None:
    code, body = invoke(overnight())
    assert code == 200
    assert (body["status"], body["correlation_id"], body["symbols"], body["stale"]) == ("ok", "event-1", 2, 0)
    assert (
        body["added"]
        == MarketDataStore(lake).read_bars().num_rows
        == 2 * len(calendar.sessions(date(2025, 1, 1), TUESDAY))
    )
    [event] = published()
    assert (event["detail-type"], event["detail"]) == ("DataRefreshCompleted", body)


def test_an_event_delivered_twice_changes_nothing(lake: Settings) -> None:
    invoke(overnight())
    before = MarketDataStore(lake).read_bars()
    code, body = invoke(overnight())
    assert (code, body["added"], body["finalised"], body["restated"]) == (200, 0, 0, 0)
    assert MarketDataStore(lake).read_bars().equals(before)


def test_schedules_that_overlap_lose_nothing(lake: Settings, make_settings: Callable[..., Settings]) -> None:
    """Both schedules at once, three times each, act like one after another."""
    nights = [overnight(time="2025-07-16T04:00:00Z")] * 3
    events = [*nights, *[{"mode": "post_close", "time": "2025-07-15T20:20:00Z"}] * 3]
    with ThreadPoolExecutor(len(events)) as pool:
        codes = [answer["statusCode"] for answer in pool.map(lambda event: handler(event, Context()), events)]
    assert codes == [200] * len(events)
    clean = make_settings(MARKET_DATA_BUCKET=f"{lake.bucket}/clean")
    DataRefreshService(clean).overnight(["AAPL", "IBM"], date(2025, 1, 1), now=_night(date(2025, 7, 16)))
    assert MarketDataStore(lake).read_bars().equals(MarketDataStore(clean).read_bars())


def test_post_close_adds_the_day_of_its_event(lake: Settings) -> None:
    invoke(overnight(time="2025-07-15T04:00:00Z"))
    for _ in range(2):
        code, body = invoke({"mode": "post_close", "time": "2025-07-15T20:05:00Z"})
        assert code == 200, body
    last = MarketDataStore(lake).read_bars(["AAPL"], start=TUESDAY).to_pylist()
    assert [(row["date"], row["is_final"]) for row in last] == [(TUESDAY, False)]


def test_a_holiday_has_nothing_to_do(lake: Settings) -> None:
    code, body = invoke({"mode": "post-close", "time": "2025-07-04T20:05:00Z"})
    assert (code, body["note"]) == (200, "2025-07-04 is not a session of the exchange: nothing to do")


def test_post_close_does_not_wait_beyond_the_deadline(lake: Settings) -> None:
    """The bar is complete in an hour; Lambda ends earlier."""
    now = datetime.now(UTC)
    coming = next(
        day
        for day in calendar.sessions(now.date(), now.date() + timedelta(days=9))
        if calendar.session_close(day) > now
    )
    at = calendar.session_close(coming) - timedelta(minutes=30)
    code, body = invoke({"mode": "post_close", "time": at.isoformat()}, Context(remaining=lambda: 1000))
    assert code == 500
    assert "complete from" in body["error"]


@pytest.mark.parametrize(
    ("event", "kind", "symbols"),
    [
        ({"mode": "overnight"}, "overnight", None),
        ({"symbols": "AAPL, IBM"}, "overnight", ["AAPL", "IBM"]),
        ({"symbols": ["AAPL"], "mode": "post-close"}, "post_close", ["AAPL"]),
        ({"detail-type": "Scheduled Event", "detail": {"mode": "post_close"}}, "post_close", None),
        ({"detail-type": "Scheduled Event", "resources": ["arn:aws:events:r:1:rule/x-post-close"]}, "post_close", None),
        ({"detail-type": "Scheduled Event", "resources": ["arn:aws:events:r:1:rule/x_overnight"]}, "overnight", None),
        ({"detail-type": "MarketDataFetchRequested", "detail": {"symbol": "AAPL"}}, "fetch", ["AAPL"]),
        ({"detail-type": "MarketDataFetchRequested", "detail": {"symbols": ["AAPL", "FB"]}}, "fetch", ["AAPL", "FB"]),
    ],
)
def test_events_are_understood(event: dict[str, Any], kind: str, symbols: list[str] | None) -> None:
    job = lambda_handler.job_of(event, "c")
    assert (job.kind, job.symbols) == (kind, symbols)


@pytest.mark.parametrize(
    "event",
    [
        None,
        [],
        "overnight",
        {},
        {"mode": "weekly"},
        {"mode": "overnight", "start": "last year"},
        {"mode": "post_close", "start": "2025-01-01"},
        {"mode": "overnight", "time": "noon"},
        {"symbols": [1, 2]},
        {"symbols": []},
        {"detail-type": "Something Else", "detail": {}},
        {"detail-type": "Scheduled Event"},
        {"detail-type": "Scheduled Event", "resources": ["rule/overnight-and-post-close"]},
        {"detail-type": "MarketDataFetchRequested", "detail": {}},
        {"detail-type": "MarketDataFetchRequested", "detail": "AAPL"},
    ],
)
def test_a_bad_event_is_answered_with_400(lake: Settings, event: Any) -> None:
    code, body = invoke(event)
    assert code == 400
    assert body["error"]
    assert MarketDataStore(lake).partitions() == []


def test_a_fetch_request_is_answered_symbol_by_symbol(
    lake: Settings, published: Callable[[], list[dict[str, Any]]], alpaca: AlpacaServer
) -> None:
    detail = {"symbols": ["AAPL", "FB"], "requested_by": "strategy-7", "correlation_id": "trace-9"}
    event = {"detail-type": "MarketDataFetchRequested", "source": "strategies", "time": OVERNIGHT, "detail": detail}
    code, body = invoke(event)
    assert (code, body["correlation_id"]) == (200, "trace-9")
    assert [(outcome["symbol"], outcome["status"]) for outcome in body["outcomes"]] == [
        ("AAPL", "fetched"),
        ("FB", "fetched"),
    ]
    code, body = invoke(event)
    assert [outcome["status"] for outcome in body["outcomes"]] == ["deduplicated", "deduplicated"]
    assert [event["detail-type"] for event in published()] == ["MarketDataFetchCompleted"] * 2
    alpaca.faults.append(Fault("status", times=99, status=403, symbol="GOOG"))
    code, body = invoke(event | {"detail": {"symbols": ["GOOG", "AAPL"]}})
    assert (code, body["status"]) == (206, "partial")
    code, body = invoke(event | {"detail": {"symbol": "GOOG"}})
    assert (code, [event["detail-type"] for event in published()][-1]) == (500, "WorkflowFailed")
    assert invoke(event | {"detail": {"symbol": "../x"}})[0] == 400


def test_a_deadline_stops_cleanly_and_names_what_is_left(lake: Settings, alpaca: AlpacaServer) -> None:
    """Time is up after two batches; running again completes the job."""
    answers = iter([900_000, 900_000])
    symbols = ["AAPL", "FB", "GOOG", "IBM"]
    from alchemiser_duck.ingest import source as alpaca_source

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alpaca_source, "BATCH_SYMBOLS", 1)
        code, body = invoke(overnight(symbols=symbols), Context(remaining=lambda: next(answers, 1000)))
    assert code == 206
    done = MarketDataStore(lake).list_symbols()
    assert len(done) == 3  # the one in whose place it was noticed is complete too
    assert sorted([*done, *body["left"]]) == symbols
    assert any("run the same again" in failure for failure in body["failures"])
    code, body = invoke(overnight(symbols=body["left"]))
    assert (code, body["left"]) == (200, [])
    assert MarketDataStore(lake).list_symbols() == symbols


def test_alpacas_keys_come_from_secrets_manager_and_stay_secret(
    lake: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], box: Sandbox
) -> None:
    monkeypatch.delenv("APCA_API_KEY_ID")
    monkeypatch.delenv("APCA_API_SECRET_KEY")
    secrets, name = boto3.client("secretsmanager"), f"alpaca-{lake.bucket}"
    monkeypatch.setenv("ALPACA_SECRET_ID", name)
    code, body = invoke(overnight())
    assert (code, "cannot be read" in body["error"]) == (500, True)
    secrets.create_secret(Name=name, SecretString='{"wrong": "hunter2"}')
    code, body = invoke(overnight())
    assert (code, "is not a JSON object with APCA_API_KEY_ID" in body["error"]) == (500, True)
    wrong = {"APCA_API_KEY_ID": KEY_ID, "APCA_API_SECRET_KEY": "rotated-away"}
    secrets.put_secret_value(SecretId=name, SecretString=json.dumps(wrong))
    assert invoke(overnight())[0] == 500
    right = {"APCA_API_KEY_ID": KEY_ID, "APCA_API_SECRET_KEY": SECRET_KEY}
    secrets.put_secret_value(SecretId=name, SecretString=json.dumps(right))
    assert invoke(overnight())[0] == 200  # asked for again after a refusal
    shown = capsys.readouterr()
    for secret in ("hunter2", "rotated-away", SECRET_KEY):
        assert secret not in shown.out + shown.err


def test_failures_are_answered_and_published(
    lake: Settings, published: Callable[[], list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APCA_API_SECRET_KEY", "wrong")
    code, body = invoke(overnight())
    assert (code, body["status"]) == (500, "failed")
    assert "APCA_API" in body["error"]
    [event] = published()
    assert (event["detail-type"], event["detail"]["error"]) == ("WorkflowFailed", body["error"])


def test_an_event_that_cannot_be_published_makes_a_success_partial(
    lake: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVENT_BUS_NAME", "bus")
    monkeypatch.setenv("AWS_ENDPOINT_URL_EVENTS", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    code, body = invoke(overnight())
    assert (code, body["status"], "DataRefreshCompleted" in body["not_published"]) == (206, "ok", True)


def test_a_cold_start_answers_too(lake: Settings, box: Sandbox) -> None:
    """A fresh process needs no home; its log is JSON."""
    code = (
        "import json, sys; from alchemiser_duck.lambda_handler import handler; "
        "answer = handler(json.loads(sys.argv[1]), None); print('ANSWER', answer['statusCode'], answer['body'])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, json.dumps(overnight())],
        env=dict(os.environ) | {"HOME": "/proc/nowhere"},
        capture_output=True,
        text=True,
        check=False,
    )
    *lines, answer = ended.stdout.splitlines()
    assert answer.startswith("ANSWER 200"), ended.stderr
    logs = [json.loads(line) for line in lines]
    assert {line.get("correlation_id", "event-1") for line in logs} == {"event-1"}
    assert [line["message"] for line in logs if "message" in line] == ["event received", "run ended"]
    metrics = {name: value for line in logs if "_aws" in line for name, value in line.items()}
    assert (metrics["StaleSymbols"], metrics["Failures"], metrics["Completed"]) == ([0.0], [0.0], [1.0])


def simulate(lake: Settings, alpaca: AlpacaServer, first: date, last: date) -> None:
    """Run each day's schedules, some twice, some during an outage."""
    day = first
    while day <= last:
        night = datetime(day.year, day.month, day.day, 4, tzinfo=UTC)
        close = datetime(day.year, day.month, day.day, 16, 5, tzinfo=calendar.NEW_YORK)
        for mode, at in (("overnight", night), ("post_close", close)):
            if mode == "post_close" and day.weekday() > 4:
                continue
            event = {"mode": mode, "time": at.isoformat(), "id": f"{mode}-{day}"}
            if mode == "overnight":
                event["start"] = first.isoformat()
            wait = timedelta(minutes=10) if mode == "post_close" else timedelta()
            alpaca.clock = lambda at=at, wait=wait: at + wait  # type: ignore[misc]
            if day.day % 9 == 5:
                alpaca.faults.append(Fault("status", times=3, status=401))
            for _ in range(2 if day.day % 4 == 1 else 1):
                handler(event, Context())
            alpaca.faults.clear()
        day += timedelta(days=1)


@pytest.mark.parametrize(
    ("first", "last"),
    [
        (date(2024, 10, 28), date(2024, 12, 3)),  # daylight saving ends, Thanksgiving, an early close
        # the year ends, daylight saving begins, Good Friday
        pytest.param(date(2024, 12, 2), date(2025, 4, 22), marks=pytest.mark.slow),
    ],
)
def test_simulated_days_equal_a_clean_backfill(
    lake: Settings, make_settings: Callable[..., Settings], alpaca: AlpacaServer, first: date, last: date
) -> None:
    DataRefreshService(lake).overnight(["AAPL", "IBM"], first - timedelta(days=5), now=_night(first))
    simulate(lake, alpaca, first, last)
    alpaca.clock = lambda: _night(last + timedelta(days=1))
    assert (
        invoke({"mode": "overnight", "time": _night(last + timedelta(days=1)).isoformat(), "start": str(first)})[0]
        == 200
    )
    clean = make_settings(MARKET_DATA_BUCKET=f"{lake.bucket}/clean")
    DataRefreshService(clean).overnight(
        ["AAPL", "IBM"], first - timedelta(days=5), now=_night(last + timedelta(days=1))
    )
    assert MarketDataStore(lake).read_bars().equals(MarketDataStore(clean).read_bars())
    query = "select * exclude (first_seen) from corporate_actions order by id"
    actions, expected = (
        CachedMarketDataAdapter(settings, clock=lambda: _night(last)).sql(query).fetchall()
        for settings in (lake, clean)
    )
    assert actions == expected


def _night(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, 8, tzinfo=UTC)


assert _night(date(2025, 7, 16)) == MORNING
