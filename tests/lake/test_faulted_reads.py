"""A read gives the right rows or raises, whatever one answer of S3 is like; and the next read gives the right ones."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import date

import pytest
from action_cases import split, take_in
from conftest import MORNING, bar_rows, bar_table
from s3_proxy import Answer, Exchange, S3Proxy

from alchemiser_duck import CachedMarketDataAdapter, MarketDataStore, Settings
from alchemiser_duck import exchange_calendar as calendar
from alchemiser_duck.errors import AlchemiserDuckError

DAYS = calendar.sessions(date(2023, 1, 3), date(2025, 7, 15))

HTML = b"<html><body><h1>It works!</h1></body></html>"


def flipped(body: bytes, place: float) -> bytes:
    """One bit of the body, turned."""
    if not body:
        return body
    at = min(int(len(body) * place), len(body) - 1)
    return body[:at] + bytes([body[at] ^ 16]) + body[at + 1 :]


def is_list(exchange: Exchange) -> bool:
    return "list-type" in exchange.path


def without_newest(answer: Answer) -> Answer:
    """A LIST that does not know the last of its objects yet."""
    head, found, rest = answer.body.rpartition(b"<Contents>")
    return replace(answer, body=head + rest.partition(b"</Contents>")[2]) if found else answer


FAULTS: dict[str, Callable[[Exchange, Answer], Answer]] = {
    "html": lambda _, answer: replace(answer, status=200, headers={"content-type": "text/html"}, body=HTML),
    "html with the object's headers": lambda _, answer: replace(answer, status=200, body=HTML),
    "empty": lambda _, answer: replace(answer, body=b""),
    "half": lambda _, answer: replace(answer, body=answer.body[: len(answer.body) // 2]),
    "flipped early": lambda _, answer: replace(answer, body=flipped(answer.body, 0.1)),
    "flipped in the middle": lambda _, answer: replace(answer, body=flipped(answer.body, 0.5)),
    "flipped late": lambda _, answer: replace(answer, body=flipped(answer.body, 0.98)),
    "no etag": lambda _, answer: replace(
        answer, headers={name: value for name, value in answer.headers.items() if name != "etag"}
    ),
    "forbidden": lambda _, answer: replace(answer, status=403, headers={}, body=b""),
    "not found": lambda _, answer: replace(answer, status=404, headers={}, body=b""),
    "stale list": lambda exchange, answer: without_newest(answer) if is_list(exchange) else answer,
}

READS: dict[str, Callable[[CachedMarketDataAdapter], object]] = {
    "get_bars": lambda adapter: adapter.get_bars("AAPL", "1Y"),
    "latest": lambda adapter: adapter.latest("sma", ["AAPL", "IBM"], n=200).fetchall(),
    "history": lambda adapter: adapter.indicator("ema", ["IBM", "AAPL"], start="2024-02-01").fetchall(),
    "panel": lambda adapter: adapter.indicators_table({"sma": {}, "rsi": {}}, latest=True).fetchall(),
    "sql": lambda adapter: adapter.sql(
        "select symbol, sum(close), count(*) from bars group by 1 order by 1"
    ).fetchall(),
    "freshness": lambda adapter: adapter.sql("from freshness order by symbol").fetchall(),
}


@pytest.fixture
def lake(settings: Settings, proxy: S3Proxy) -> Settings:
    """Two and a half years of two symbols and a split, seen through a proxy."""
    MarketDataStore(settings).write_bars(bar_table(bar_rows("AAPL", DAYS) + bar_rows("IBM", DAYS, 50.0)))
    take_in(settings, [split("AAPL", "2025-02-03", 4), split("IBM", "2024-02-05", 1, 3)], date(2025, 7, 15))
    return settings.model_copy(update={"endpoint_url": proxy.url})


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("read", READS)
def test_one_bad_answer_never_gives_wrong_rows(lake: Settings, proxy: S3Proxy, read: str, fault: str) -> None:
    def rows() -> object:
        return READS[read](adapter)

    adapter = CachedMarketDataAdapter(lake, clock=lambda: MORNING)
    expected = rows()
    for index in range(len(proxy.exchanges)):
        adapter = CachedMarketDataAdapter(lake, clock=lambda: MORNING)
        proxy.clear()
        proxy.answer = lambda at, exchange, answer, index=index: (  # type: ignore[misc]
            FAULTS[fault](exchange, answer) if at == index else answer
        )
        with suppress(AlchemiserDuckError):
            assert rows() == expected, f"request {index}: {proxy.exchanges[index]}"
        proxy.answer = None
        assert rows() == expected, f"after request {index}"
