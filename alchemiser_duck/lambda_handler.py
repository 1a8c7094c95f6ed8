"""The AWS Lambda entry point: scheduled refreshes, fetch requests and manual runs.

Events it takes:

    {"mode": "overnight"} or {"mode": "post_close"}, with symbols, start and correlation_id where wanted: manual runs,
        and what EventBridge Scheduler sends;
    EventBridge's "Scheduled Event" with such a detail, or with the mode in its rule's name;
    EventBridge's "MarketDataFetchRequested", detail: symbol or symbols, requested_by, correlation_id.

An event's `time` is the time the run takes it to be, so that one that is delivered late or twice does the same again.

It answers {"statusCode": 200 | 206 partial | 400 bad event | 500, "body": JSON}. With EVENT_BUS_NAME set it publishes
DataRefreshCompleted, MarketDataFetchCompleted or WorkflowFailed with the same body; with ALPACA_SECRET_ID set, Alpaca's
keys come from that secret of Secrets Manager.
"""

import json
import logging
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from functools import cache, lru_cache
from typing import Any, Literal

from aws_lambda_powertools import Logger
from aws_lambda_powertools.logging.utils import copy_config_to_registered_loggers
from aws_lambda_powertools.metrics import MetricUnit, single_metric

from alchemiser_duck import exchange_calendar as calendar
from alchemiser_duck.data_freshness_validator import DataFreshnessValidator
from alchemiser_duck.data_refresh_service import HISTORY_START, DataRefreshService
from alchemiser_duck.errors import AlchemiserDuckError, AlpacaRefused, BadParameter, SettingsError
from alchemiser_duck.fetch_request_service import FetchRequestService
from alchemiser_duck.ingest.run_reports import RefreshReport
from alchemiser_duck.market_data_store import MarketDataStore
from alchemiser_duck.query.session import DuckDBSession
from alchemiser_duck.settings import Settings

MARGIN_MILLISECONDS = 60_000
"""Kept free before the deadline: what is fetched by then still has to be stored and reported."""

LISTED = 100
"""Symbols named one by one in an answer; EventBridge takes 256 KiB."""

logger = Logger(service="alchemiser-duck")
logging.getLogger("stamina")  # retries are logged like everything else
copy_config_to_registered_loggers(logger, include={"stamina"})


class BadEvent(BadParameter):
    """The event is not one that this function takes."""


@dataclass(frozen=True)
class Job:
    """The refresh or fetch that an event asks for."""

    kind: Literal["overnight", "post_close", "fetch"]
    correlation_id: str
    symbols: list[str] | None = None
    start: date = HISTORY_START
    requested_by: str = ""
    now: datetime | None = None

    @property
    def completed(self) -> str:
        """Return the type of the event that says it is done."""
        return "MarketDataFetchCompleted" if self.kind == "fetch" else "DataRefreshCompleted"


def handler(event: Any, context: Any) -> dict[str, Any]:
    """Do what an event asks for; see the module's text."""
    correlation_id = _correlation_id(event, context)
    logger.append_keys(correlation_id=correlation_id)
    logger.info("event received", extra={"event": event})
    try:
        job = job_of(event, correlation_id)
    except BadEvent as problem:
        return _answer(400, "WorkflowFailed", {"correlation_id": correlation_id, "error": str(problem)})
    body: dict[str, Any] = {"correlation_id": correlation_id, "mode": job.kind}
    try:
        body |= _run(job, _stop_before_deadline(context))
    except BadParameter as problem:
        return _answer(400, "WorkflowFailed", body | {"status": "failed", "error": str(problem)})
    except AlchemiserDuckError as problem:
        if isinstance(problem, AlpacaRefused):
            _secret.cache_clear()  # the keys may have been rotated
        logger.error("run failed", extra={"error": str(problem)})
        return _answer(500, "WorkflowFailed", body | {"status": "failed", "error": str(problem)})
    except Exception as problem:
        logger.exception("run failed unexpectedly")
        error = f"internal error: {type(problem).__name__}; the log has the rest"  # its text could hold anything
        return _answer(500, "WorkflowFailed", body | {"status": "failed", "error": error})
    code = {"ok": 200, "partial": 206, "failed": 500}[body["status"]]
    return _answer(code, "WorkflowFailed" if code == 500 else job.completed, body)


def job_of(event: Any, correlation_id: str) -> Job:
    """Read the job that an event asks for.

    Raises:
        BadEvent: it is none of ours, or one of its fields is not what it should be.
    """
    if not isinstance(event, dict):
        raise BadEvent(f"the event is a {type(event).__name__}, not a JSON object")
    if "detail-type" not in event:
        return _refresh_job(event, event.get("now") or event.get("time"), correlation_id)
    detail, kind = event.get("detail") or {}, event["detail-type"]
    if not isinstance(detail, dict):
        raise BadEvent("the event's detail is not a JSON object")
    if kind == "MarketDataFetchRequested":
        symbols = _symbols(detail)
        if not symbols:
            raise BadEvent("MarketDataFetchRequested needs symbol or symbols in its detail")
        requested_by = str(detail.get("requested_by") or event.get("source") or "unknown")
        return Job("fetch", correlation_id, symbols, requested_by=requested_by, now=_moment(event.get("time")))
    if kind == "Scheduled Event":
        named = " ".join(map(str, event.get("resources") or ())).replace("_", "-")
        modes = [mode for mode in ("overnight", "post-close") if mode in named]
        if "mode" not in detail and len(modes) != 1:
            raise BadEvent("the scheduled event has no mode: give it one in its detail, or in the name of its rule")
        return _refresh_job({"mode": modes[0] if modes else None} | detail, event.get("time"), correlation_id)
    raise BadEvent(f"detail-type {kind!r} is none of Scheduled Event, MarketDataFetchRequested")


def _refresh_job(fields: dict[str, Any], time: Any, correlation_id: str) -> Job:
    if not {"mode", "symbols", "symbol", "start"} & fields.keys():
        raise BadEvent('the event names neither mode nor symbols; for example: {"mode": "overnight"}')
    mode = str(fields.get("mode") or "overnight").replace("-", "_")
    if mode not in ("overnight", "post_close"):
        raise BadEvent(f"mode {fields['mode']!r} is none of overnight, post_close")
    start = fields.get("start")
    if start is not None and mode == "post_close":
        raise BadEvent("start is for mode overnight; post_close brings today's bar alone")
    try:
        first = HISTORY_START if start is None else date.fromisoformat(str(start))
    except ValueError:
        raise BadEvent(f"start {start!r} is not a date such as 2016-01-01") from None
    kind: Literal["overnight", "post_close"] = "overnight" if mode == "overnight" else "post_close"
    return Job(kind, correlation_id, _symbols(fields), first, now=_moment(time))


def _symbols(fields: dict[str, Any]) -> list[str] | None:
    value = fields.get("symbols", fields.get("symbol"))
    if value is None:
        return None
    symbols = value.replace(",", " ").split() if isinstance(value, str) else value
    if not isinstance(symbols, list) or not symbols or not all(isinstance(symbol, str) for symbol in symbols):
        raise BadEvent(f"symbols is a list of tickers, got {value!r}")
    return symbols


def _moment(time: Any) -> datetime | None:
    if time is None:
        return None
    try:
        moment = datetime.fromisoformat(str(time))
    except ValueError:
        raise BadEvent(f"time {time!r} is not a moment such as 2026-11-20T21:05:00Z") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _correlation_id(event: Any, context: Any) -> str:
    fields = event if isinstance(event, dict) else {}
    detail = fields.get("detail")
    in_detail = detail.get("correlation_id") if isinstance(detail, dict) else None
    in_event = in_detail or fields.get("correlation_id") or fields.get("id")
    return str(in_event or getattr(context, "aws_request_id", "") or "none")


@dataclass(frozen=True)
class _Services:
    """The parts of a run, over one DuckDB."""

    refresh: DataRefreshService
    fetches: FetchRequestService
    freshness: DataFreshnessValidator


@lru_cache(maxsize=1)
def _services(settings: Settings) -> _Services:
    """Keep the services, and all they opened, in a warm container."""
    session = DuckDBSession(settings)
    store = MarketDataStore(settings, session=session)
    refresh = DataRefreshService(settings, store=store)
    fetches = FetchRequestService(settings, store=store, refresh=refresh)
    return _Services(refresh, fetches, DataFreshnessValidator(settings, session=session))


def _run(job: Job, stop: Callable[[], bool] | None) -> dict[str, Any]:
    services = _services(_settings())
    now = job.now or calendar.utc_now()
    if job.kind == "fetch":
        fetched = services.fetches.request(job.symbols or [], job.requested_by, now=now)
        return {"status": fetched.status, "outcomes": [asdict(outcome) for outcome in fetched.outcomes]}
    if job.kind == "overnight":
        report = services.refresh.overnight(job.symbols, job.start, now=now, stop=stop)
    else:
        report = services.refresh.post_close(job.symbols, now=now, wait=True, stop=stop)
    stale = _stale_symbols(services.freshness, now)
    _measure("FailedSymbols", len(report.symbols_with("failed")))
    return _body(report) | {"stale": stale}


def _body(report: RefreshReport) -> dict[str, Any]:
    changes = report.changes
    failed = {outcome.symbol: outcome.reason for outcome in report.outcomes if outcome.status == "failed"}
    return {
        "status": report.status,
        "run_id": report.run_id,
        "note": report.note,
        "first_session": str(report.first_session or ""),
        "last_session": str(report.last_session or ""),
        "symbols": len(report.outcomes),
        "added": changes.added,
        "finalised": changes.finalised,
        "restated": changes.restated,
        "quarantined": len(report.quarantined),
        "failed_symbols": len(failed),
        "failed": dict(list(failed.items())[:LISTED]),
        "failures": list(report.failures[:LISTED]),
        "left": list(report.left),
        "seconds": round(report.seconds, 3),
    }


def _stale_symbols(validator: DataFreshnessValidator, now: datetime) -> int | None:
    """Count the symbols that are behind; None means it is unknown."""
    try:
        freshness = validator.validate(now=now)
    except AlchemiserDuckError as problem:
        logger.warning("freshness is not known", extra={"error": str(problem)})
        return None
    stale = len(freshness.stale) + len(freshness.missing)
    _measure("StaleSymbols", stale)
    return stale


def _answer(code: int, event: str, body: dict[str, Any]) -> dict[str, Any]:
    """Log and publish the end; a success without its event is partial."""
    _measure("Failures", int(code >= 500))
    _measure("Completed", int(code < 300))
    logger.info("run ended", extra={"status_code": code, "result": body})
    try:
        _publish(event, body)
    except Exception as problem:
        logger.exception("event was not published")
        body |= {"not_published": f"{event}: {type(problem).__name__}"}
        code = max(code, 206)
    return {"statusCode": code, "body": json.dumps(body)}


def _publish(event: str, body: dict[str, Any]) -> None:
    bus = os.environ.get("EVENT_BUS_NAME")
    if not bus:
        return
    import boto3

    entry = {"Source": "alchemiser-duck", "DetailType": event, "Detail": json.dumps(body), "EventBusName": bus}
    answer = boto3.client("events").put_events(Entries=[entry])
    if answer.get("FailedEntryCount"):
        raise RuntimeError(f"EventBridge refused {event}: {answer['Entries'][0].get('ErrorCode')}")


def _measure(name: str, value: int) -> None:
    with single_metric(name=name, unit=MetricUnit.Count, value=value, namespace="alchemiser-duck"):
        pass


def _settings() -> Settings:
    secret_id = os.environ.get("ALPACA_SECRET_ID")
    return Settings.from_environment(**(_secret(secret_id) if secret_id else {}))


@cache
def _secret(secret_id: str) -> dict[str, str]:
    """Read Alpaca's keys from Secrets Manager, once per container.

    They come by the names of the variables.

    Raises:
        SettingsError: the secret cannot be read, or holds something else.
    """
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    names = ("APCA_API_KEY_ID", "APCA_API_SECRET_KEY")
    try:
        text = boto3.client("secretsmanager").get_secret_value(SecretId=secret_id)["SecretString"]
        fields = json.loads(text)
        return {name: str(fields[name]) for name in names}
    except (BotoCoreError, ClientError) as problem:
        raise SettingsError(
            f"secret {secret_id!r} cannot be read ({type(problem).__name__}): check its name and the IAM role"
        ) from None
    except (KeyError, TypeError, ValueError):  # their text could quote the secret
        raise SettingsError(f"secret {secret_id!r} is not a JSON object with {' and '.join(names)}") from None


def _stop_before_deadline(context: Any) -> Callable[[], bool] | None:
    remaining = getattr(context, "get_remaining_time_in_millis", None)
    return None if remaining is None else lambda: remaining() < MARGIN_MILLISECONDS
