"""A refresh is ok only where the lake is right, whatever one answer of S3 is like; and the next one repairs it."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import date
from typing import Any

import pytest
from conftest import MORNING
from s3_proxy import Answer, S3Proxy

from alchemiser_duck import CachedMarketDataAdapter, DataRefreshService, Settings
from alchemiser_duck.errors import AlchemiserDuckError

SYMBOLS = ["AAPL", "IBM"]
START = date(2024, 12, 1)
HTML = Answer(200, {"content-type": "text/html"}, b"<html><body><h1>It works!</h1></body></html>")


def flipped(body: bytes, place: float) -> bytes:
    """One bit of the body, turned."""
    at = int(len(body) * place)
    return body[:at] + bytes([body[at] ^ 4]) + body[at + 1 :] if body else body


def without_etag(answer: Answer) -> Answer:
    return replace(answer, headers={name: value for name, value in answer.headers.items() if name != "etag"})


ANSWERS: dict[str, Callable[[Answer], Answer]] = {
    "html after it was done": lambda _: HTML,
    "no etag": without_etag,
    "flipped": lambda answer: replace(answer, body=flipped(answer.body, 0.4)),
    "half": lambda answer: replace(answer, body=answer.body[: len(answer.body) // 2]),
    "empty": lambda answer: replace(answer, body=b""),
}
"""What comes back instead of the store's answer."""

INSTEAD: dict[str, Answer] = {
    "html and nothing done": HTML,
    "500": Answer(500, {}, b""),
    "403": Answer(403, {}, b"<Error><Code>AccessDenied</Code></Error>"),
    "404": Answer(404, {}, b"<Error><Code>NoSuchKey</Code></Error>"),
}
"""What comes back without the store being asked."""

FAULTS = [*ANSWERS, *INSTEAD, "flipped on the way out"]


def at(proxy: S3Proxy, index: int, fault: str) -> None:
    """Let one request of the proxy meet a fault."""
    if fault in ANSWERS:
        proxy.answer = lambda at, _, answer: ANSWERS[fault](answer) if at == index else answer
    elif fault in INSTEAD:
        proxy.instead = lambda at, _: INSTEAD[fault] if at == index else None
    else:
        proxy.send = lambda at, exchange, body: flipped(body, 0.4) if at == index and exchange.method == "PUT" else body


def contents(settings: Settings) -> Any:
    """Everything that a reader sees of bars and actions."""
    adapter = CachedMarketDataAdapter(settings, clock=lambda: MORNING)
    bars = adapter.bars()
    actions = adapter.sql("select id, ex_date, split_factor, price_factor from corporate_actions order by id")
    return bars.fetchall(), actions.fetchall()


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_one_bad_answer_never_leaves_a_wrong_lake_behind(
    make_settings: Callable[..., Settings], proxy: S3Proxy, fault: str
) -> None:
    def lake(name: str) -> Settings:
        own = make_settings(MARKET_DATA_BUCKET=f"{make_settings().bucket}/{name}")
        return own.model_copy(update={"endpoint_url": proxy.url})

    clean = lake("clean")
    DataRefreshService(clean).overnight(SYMBOLS, START, now=MORNING)
    requests = len(proxy.exchanges)
    expected = contents(clean)
    assert requests > 8
    for index in range(requests):
        settings = lake(f"fault-{index}")
        proxy.clear()
        at(proxy, index, fault)
        status = "failed"
        with suppress(AlchemiserDuckError):
            status = DataRefreshService(settings).overnight(SYMBOLS, START, now=MORNING).status
        proxy.answer = proxy.instead = proxy.send = None
        where = f"request {index}, {status}"
        if status == "ok":
            assert contents(settings) == expected, where
        assert DataRefreshService(settings).overnight(SYMBOLS, START, now=MORNING).status == "ok", where
        assert contents(settings) == expected, where
