"""Whatever the vendor answers, a run reports: nothing else is lost, and nothing that it stored stops a read."""

import copy
import gzip
import json
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from action_cases import new_lake, split, take_in
from conftest import MORNING, bar_rows, bar_table
from hypothesis import given
from hypothesis import settings as example_settings
from hypothesis import strategies as st
from vendor_histories import DAYS, refresh, serve

from alchemiser_duck import CachedMarketDataAdapter, DataFreshnessValidator, MarketDataStore, Settings
from alchemiser_duck.errors import AlpacaUnavailable
from alchemiser_duck.ingest import alpaca_client
from alchemiser_duck.ingest.source import AlpacaSource
from alchemiser_duck.sandbox import AlpacaServer

DAY = str(DAYS[30])
SPLIT = {"id": "s", "symbol": "ODD", "process_date": DAY, "ex_date": DAY, "new_rate": 2, "old_rate": 1}
ACTIONS: dict[str, dict[str, Any]] = {
    "forward_splits": SPLIT,
    "stock_dividends": {"id": "k", "symbol": "ODD", "process_date": DAY, "ex_date": DAY, "rate": 0.1},
    "cash_dividends": {"id": "d", "symbol": "ODD", "process_date": DAY, "ex_date": DAY, "rate": 1.0, "special": False},
    "name_changes": {"id": "n", "old_symbol": "WAS", "new_symbol": "ODD", "process_date": DAY, "old_cusip": "C"},
    "spin_offs": {
        "id": "o", "source_symbol": "ODD", "new_symbol": "CHILD", "process_date": DAY, "ex_date": DAY, "source_rate": 1,
        "new_rate": 1,
    },
}  # fmt: skip
ODD: list[Any] = [
    None, True, 7, -1, 0, 0.0, 1e308, 5e-324, float("nan"), float("inf"), int("9" * 400), 2**63, 2**70, "x", "", " ",
    "\ud800", "A\0B", "0001-01-01", "9999-12-31", "9999-12-31T05:00:00Z", "0001-01-01T05:00:00Z", [], {}, [[1]],
    {"a": {"b": []}}, ["ODD"], "x" * 5_000,
]  # fmt: skip
PLACES: list[tuple[Any, ...]] = [
    ("bars",), ("bars", "ODD"), ("bars", "\ud800"), ("bars", "OTHER"), ("bars", "ODD", 5), ("next_page_token",),
    *(("bars", "ODD", 5, key) for key in "tohlcv"), ("bars", "ODD", 5, "vw"), ("bars", "ODD", 5, "n"),
    ("corporate_actions",), ("corporate_actions", "moon_landings"),
    *(("corporate_actions", kind) for kind in ACTIONS), *(("corporate_actions", kind, 0) for kind in ACTIONS),
    *(("corporate_actions", kind, 0, field) for kind, row in ACTIONS.items() for field in [*row, "cusip", "currency"]),
]  # fmt: skip


@contextmanager
def answering(alpaca: AlpacaServer, changes: list[tuple[tuple[Any, ...], Any]]) -> Iterator[None]:
    """Change the answers that have these places."""
    answer = alpaca.answer

    def odd(path: str, query: dict[str, str]) -> Any:
        whole = copy.deepcopy(answer(path, query))
        for place, value in changes:
            inner: Any = whole
            try:
                for step in place[:-1]:
                    inner = inner[step]
                if (isinstance(inner, dict) and (len(place) > 1 or place[0] in whole)) or isinstance(inner, list):
                    inner[place[-1]] = value
            except (KeyError, IndexError, TypeError):
                continue
        return whole

    alpaca.answer = odd  # type: ignore[method-assign]
    try:
        yield
    finally:
        del alpaca.answer


changes = st.lists(st.tuples(st.sampled_from(PLACES), st.sampled_from(ODD)), min_size=1, max_size=3)


def run(make_settings: Callable[..., Settings], alpaca: AlpacaServer, odd: list[tuple[tuple[Any, ...], Any]]) -> None:
    serve(alpaca, "GOOD", [50.0] * len(DAYS))
    serve(alpaca, "ODD", [50.0] * len(DAYS))
    alpaca.data.actions = {kind: [dict(row)] for kind, row in ACTIONS.items()}
    settings = new_lake(lambda **more: make_settings(ALCHEMISER_SYMBOLS="", **more))
    with answering(alpaca, odd):
        report = refresh(settings, ["GOOD", "ODD"])
    [good] = [outcome for outcome in report.outcomes if outcome.symbol == "GOOD"]
    for now in (0, 1):  # as it is, and after the next night, when the vendor is well again
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            adapter = CachedMarketDataAdapter(settings, clock=lambda: MORNING, on_suspect="ignore")
            if now or report.partitions_written:
                closes = adapter.sql("select close from bars where symbol = 'GOOD'").fetchall()
                assert closes == [(50.0,)] * (len(DAYS) if now or good.status == "ok" else 0)
                for relation in ("bars", "corporate_actions", "listings", "corporate_action_suspects", "refresh_runs"):
                    adapter.sql(f"from {relation}").fetchall()
                DataFreshnessValidator(settings).findings(now=MORNING)
        if not now:
            refresh(settings, ["GOOD", "ODD"], hours=1)


@pytest.mark.parametrize("examples", [8, pytest.param(25, marks=pytest.mark.slow)])
def test_an_odd_answer_costs_what_is_odd(
    make_settings: Callable[..., Settings], alpaca: AlpacaServer, examples: int
) -> None:
    @example_settings(max_examples=examples, deadline=None)
    @given(odd=changes)
    def holds(odd: list[tuple[tuple[Any, ...], Any]]) -> None:
        run(make_settings, alpaca, odd)

    holds()


def test_an_action_of_a_far_day_has_no_effect_yet(settings: Settings) -> None:
    """No bar is near it: that is no reason to take it for effective."""
    MarketDataStore(settings).write_bars(bar_table(bar_rows("AAPL", DAYS, 50.0)))
    take_in(settings, [split("AAPL", "2190-12-31", 2)], DAYS[-1])
    adapter = CachedMarketDataAdapter(settings, clock=lambda: MORNING)
    assert adapter.sql("select status, price_factor from corporate_actions").fetchall() == [("upcoming", None)]
    assert adapter.sql("select distinct close from bars").fetchall() == [(50.0,)]


@contextmanager
def raw_server(send: Callable[[socket.socket], None]) -> Iterator[str]:
    """Answer every connection by writing to its socket."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ended = threading.Event()

        def serve_all() -> None:
            while not ended.is_set():
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    try:
                        send(connection)
                    except OSError:
                        continue

        threading.Thread(target=serve_all, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        ended.set()


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"


def test_a_body_that_drips_is_given_up(make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte comes in time; the answer does not."""
    monkeypatch.setattr(alpaca_client, "LONGEST_BODY_SECONDS", 1.0)

    def drip(connection: socket.socket) -> None:
        connection.sendall(HEAD + b"Content-Length: 100000\r\n\r\n")
        for _ in range(200):
            connection.sendall(b" ")
            time.sleep(0.05)

    with raw_server(drip) as url:
        source = AlpacaSource(make_settings(APCA_API_DATA_URL=url), attempts=2, first_wait_seconds=0.02)
        begun = time.monotonic()
        with pytest.raises(AlpacaUnavailable, match="no end after 1 seconds"):
            source.latest_quote("AAPL")
    assert time.monotonic() - begun < 9  # ten seconds of dripping, twice


def test_a_body_that_unpacks_without_end_is_given_up(make_settings: Callable[..., Settings]) -> None:
    bomb = gzip.compress(b" " * (1 << 28))

    def send(connection: socket.socket) -> None:
        head = HEAD + f"Content-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n\r\n".encode()
        connection.sendall(head + bomb)

    with raw_server(send) as url:
        source = AlpacaSource(make_settings(APCA_API_DATA_URL=url), attempts=1)
        with pytest.raises(AlpacaUnavailable, match="larger than 67,108,864 bytes"):
            source.latest_quote("AAPL")


def test_pages_without_end_are_given_up(
    settings: Settings, alpaca: AlpacaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new token each time is no progress either."""
    monkeypatch.setattr(alpaca_client, "LONGEST_ANSWER_SECONDS", 0.5)
    answer, pages = alpaca.answer, iter(range(10**9))
    alpaca.answer = lambda path, query: (
        answer(path, {**query, "page_token": ""} if 0 else query)
        | {  # type: ignore[method-assign]
            "next_page_token": f"page-{next(pages)}"
        }
    )
    monkeypatch.setattr("alchemiser_duck.sandbox.answers.page_of", lambda items, *_: (items, None))
    try:
        source = AlpacaSource(settings, attempts=1)
        batches = list(
            source.daily_bars(["IBM"], MORNING.replace(year=2025, month=7, day=1), MORNING.replace(hour=1), 10)
        )
    finally:
        del alpaca.answer
    assert "no end after" in batches[0].failed["IBM"]


def test_json_that_is_too_deep_is_one_failure(make_settings: Callable[..., Settings]) -> None:
    body = json.dumps({"quotes": None}).replace("null", "[" * 100_000 + "]" * 100_000).encode()

    def send(connection: socket.socket) -> None:
        connection.sendall(HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)

    with raw_server(send) as url:
        source = AlpacaSource(make_settings(APCA_API_DATA_URL=url), attempts=1)
        with pytest.raises(AlpacaUnavailable, match=r"cannot be read|is not one"):
            source.latest_quote("AAPL")
