"""AlpacaSource: raw daily bars from Alpaca's market data API, page by page, through alpaca-py's own client.

alpaca-py's paging keeps a whole answer in memory, sleeps without a rate limit, has no time-out and follows a repeated
token for ever. So its client is asked for one page at a time: each page is rate-limited, retried and turned into
Arrow on its own, and memory is bounded by a batch of symbols.
"""

import functools
import json
import re
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from threading import Lock, local
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import stamina

from alchemiser_duck.bars import QuarantinedBar, Quote
from alchemiser_duck.errors import AlpacaError, AlpacaRefused, AlpacaUnavailable, NoQuote
from alchemiser_duck.settings import Settings

if TYPE_CHECKING:
    from alpaca.data.historical.stock import StockHistoricalDataClient

PAGE_ROWS = 10_000
"""Alpaca's largest page."""

ACTION_PAGE_ROWS = 1_000
"""Alpaca's largest page of corporate actions."""

BATCH_ROWS = 50_000
"""Rows a batch of symbols is expected to bring: five pages, some 40 MB while it is converted."""

BATCH_SYMBOLS = 200
"""Symbols in one request: keeps its address below 2 kB."""

WORKERS = 4
"""Batches fetched at once; together they reach the free plan's 200 requests a minute."""

_WIRE_COLUMNS = (
    ("t", "timestamp", pa.string()),
    ("o", "open", pa.float64()),
    ("h", "high", pa.float64()),
    ("l", "low", pa.float64()),
    ("c", "close", pa.float64()),
    ("vw", "vwap", pa.float64()),
    ("v", "volume", pa.int64()),
    ("n", "trade_count", pa.int64()),
)

_OPTIONAL = ("vw", "n")

_KEYS = {"bars", "quotes", "corporate_actions"}
"""an answer has one of them"""

FETCHED_SCHEMA = pa.schema(
    [("symbol", pa.string()), ("timestamp", pa.timestamp("us", tz="UTC"))]
    + [(name, kind) for _, name, kind in _WIRE_COLUMNS[1:]]
)
"""A bar as Alpaca sends it."""


@dataclass(frozen=True)
class FetchedBatch:
    """The answer for one batch of symbols."""

    symbols: tuple[str, ...]
    bars: pa.Table
    """in FETCHED_SCHEMA, in order of arrival; a symbol without a bar is simply absent"""
    malformed: tuple[QuarantinedBar, ...] = ()
    """bars that are not bars: a text where a number belongs, a symbol that was not asked for"""
    failed: dict[str, str] = field(default_factory=dict)
    """symbols that could not be fetched, and why; another run may"""
    rejected: dict[str, str] = field(default_factory=dict)
    """symbols that Alpaca calls invalid, and its words"""


@dataclass(frozen=True)
class FetchedActions:
    """Corporate actions as Alpaca sends them."""

    lists: dict[str, list[Any]]
    """plural type: rows"""
    failed: dict[str, str]
    """symbols whose actions could not be fetched, and why"""

    def add(self, more: "FetchedActions") -> None:
        """Take in another part of the answer."""
        for kind, rows in more.lists.items():
            self.lists.setdefault(kind, []).extend(rows)
        self.failed.update(more.failed)


class _Retryable(AlpacaError):
    """An answer that another try may mend."""


class _BadRequest(AlpacaError):
    """HTTP 400: the request itself is wrong, usually one of its symbols."""


class AlpacaSource:
    """Alpaca's historical bars and latest quotes. Safe to share between threads."""

    def __init__(
        self,
        settings: Settings,
        *,
        attempts: int = 7,
        first_wait_seconds: float = 0.5,
        read_timeout_seconds: float = 30,
    ) -> None:
        """The waits between attempts double, with jitter: by default about a minute until a batch is given up."""
        from pyrate_limiter import Duration, Limiter, Rate

        self._settings = settings
        self._keys = settings.alpaca_keys()
        self._attempts = attempts
        self._first_wait = first_wait_seconds
        self._timeout = (3.05, read_timeout_seconds)
        self._limiter = Limiter(Rate(settings.requests_per_minute, Duration.MINUTE))
        self._clients = local()
        self._lock = Lock()
        self.requests = 0

    def daily_bars(
        self, symbols: list[str], start: datetime, end: datetime, sessions: int, adjustment: str = "raw"
    ) -> Iterator[FetchedBatch]:
        """Daily bars with start <= timestamp <= end, one batch of symbols at a time, as they arrive.

        A batch that cannot be fetched comes back with all its symbols failed; the others are not touched.

        Args:
            sessions: how many sessions lie between start and end; sizes the batches.
            adjustment: raw, or split, dividend or all: Alpaca's own.

        Raises:
            AlpacaRefused: the keys or the subscription are rejected, which no other batch would survive either.
        """
        size = max(1, min(BATCH_SYMBOLS, BATCH_ROWS // max(sessions, 1)))
        batches = [tuple(symbols[i : i + size]) for i in range(0, len(symbols), size)]
        ask = {"start": start.isoformat(), "end": end.isoformat(), "adjustment": adjustment}
        with ThreadPoolExecutor(min(WORKERS, len(batches)) or 1) as pool:
            pending: list[Future[FetchedBatch]] = [pool.submit(self._batch, batch, ask) for batch in batches]
            try:
                for done in as_completed(pending):
                    yield done.result()
            finally:
                for future in pending:
                    future.cancel()

    def latest_quote(self, symbol: str) -> Quote:
        """The newest bid and ask.

        Raises:
            NoQuote: Alpaca has none, or one side of it is empty.
            AlpacaRefused, AlpacaUnavailable: Alpaca does not answer as it should.
        """
        answer = self._page("/stocks/quotes/latest", {"symbols": symbol, "feed": self._settings.feed})
        quote = (answer.get("quotes") or {}).get(symbol)
        if not quote or not quote.get("bp") or not quote.get("ap"):
            raise NoQuote(
                f"Alpaca has no two-sided quote of {symbol!r} on feed {self._settings.feed}: nothing is made up"
            )
        return Quote(
            symbol=symbol,
            timestamp=datetime.fromisoformat(quote["t"]),
            bid=Decimal(str(quote["bp"])),
            ask=Decimal(str(quote["ap"])),
            bid_size=Decimal(str(quote.get("bs", 0))),
            ask_size=Decimal(str(quote.get("as", 0))),
        )

    def corporate_actions(self, symbols: list[str], first: date, last: date) -> FetchedActions:
        """Corporate actions of the symbols that Alpaca processes from first to last, every type there is.

        The dates are process dates, which for a dividend lie weeks after its ex-date.

        Raises:
            AlpacaRefused: the keys or the subscription are rejected.
        """
        batches = [tuple(symbols[i : i + BATCH_SYMBOLS]) for i in range(0, len(symbols), BATCH_SYMBOLS)]
        found = FetchedActions({}, {})
        with ThreadPoolExecutor(min(WORKERS, len(batches)) or 1) as pool:
            for part in pool.map(lambda batch: self._actions_batch(batch, first, last), batches):
                found.add(part)
        return found

    def _actions_batch(self, symbols: tuple[str, ...], first: date, last: date) -> FetchedActions:
        query = {
            "symbols": ",".join(symbols),
            "start": first.isoformat(),
            "end": last.isoformat(),
            "limit": ACTION_PAGE_ROWS,
            "sort": "asc",
        }
        found = FetchedActions({}, {})
        try:
            for answer in self._pages("/corporate-actions", query, api_version="v1"):
                lists = answer["corporate_actions"] or {}
                found.add(FetchedActions({kind: list(rows or ()) for kind, rows in lists.items()}, {}))
        except _BadRequest as problem:
            culprit, parts = _without_culprit(problem, symbols)
            found = FetchedActions({}, dict.fromkeys(culprit, str(problem)))
            for part in parts:
                found.add(self._actions_batch(part, first, last))
        except AlpacaUnavailable as problem:
            return FetchedActions({}, dict.fromkeys(symbols, str(problem)))
        return found

    def _batch(self, symbols: tuple[str, ...], ask: dict[str, str]) -> FetchedBatch:
        try:
            tables, malformed = self._all_pages(symbols, ask)
            return FetchedBatch(symbols, _table(tables), tuple(malformed))
        except _BadRequest as problem:
            return self._batch_again(symbols, ask, problem)
        except AlpacaUnavailable as problem:
            return FetchedBatch(symbols, _table([]), failed=dict.fromkeys(symbols, str(problem)))

    def _batch_again(self, symbols: tuple[str, ...], ask: dict[str, str], problem: _BadRequest) -> FetchedBatch:
        """The batch in the parts that are left of it when one of its symbols is not to be asked for."""
        culprit, remaining = _without_culprit(problem, symbols)
        parts = [FetchedBatch(culprit, _table([]), rejected=dict.fromkeys(culprit, str(problem)))]
        parts += [self._batch(part, ask) for part in remaining]
        return FetchedBatch(
            symbols,
            pa.concat_tables([part.bars for part in parts]),
            tuple(bar for part in parts for bar in part.malformed),
            {symbol: reason for part in parts for symbol, reason in part.failed.items()},
            {symbol: reason for part in parts for symbol, reason in part.rejected.items()},
        )

    def _all_pages(self, symbols: tuple[str, ...], ask: dict[str, str]) -> tuple[list[pa.Table], list[QuarantinedBar]]:
        tables: list[pa.Table] = []
        malformed: list[QuarantinedBar] = []
        query = {
            "symbols": ",".join(symbols),
            "timeframe": "1Day",
            **ask,
            "limit": PAGE_ROWS,
            "feed": self._settings.feed,
            "sort": "asc",
        }
        for answer in self._pages("/stocks/bars", query):
            table, bad = _to_arrow(answer.get("bars") or {}, symbols)
            tables.append(table)
            malformed += bad
        return tables, malformed

    def _pages(self, path: str, query: dict[str, Any], api_version: str = "v2") -> Iterator[dict[str, Any]]:
        seen: set[str] = set()
        while True:
            answer = self._page(path, query, api_version)
            yield answer
            token = answer.get("next_page_token")
            if not token:
                return
            if token in seen:
                raise AlpacaUnavailable("Alpaca repeats a page token: the answer would never end")
            seen.add(token)
            query["page_token"] = token

    def _page(self, path: str, query: dict[str, Any], api_version: str = "v2") -> dict[str, Any]:
        """One page, retried with backoff and jitter where another try may help."""
        try:
            for attempt in stamina.retry_context(
                on=_Retryable,
                attempts=self._attempts,
                timeout=None,
                wait_initial=self._first_wait,
                wait_max=30,
                wait_jitter=1,
            ):
                with attempt:
                    self._limiter.try_acquire("alpaca")
                    with self._lock:
                        self.requests += 1
                    with _translated(self._settings.alpaca_data_url):
                        answer = self._client().get(path, query, api_version=api_version)
                    if not isinstance(answer, dict) or not (_KEYS & answer.keys()):
                        raise _Retryable(f"Alpaca's answer is not one: {str(answer)[:100]!r}")
                    return answer
        except _Retryable as problem:
            raise AlpacaUnavailable(f"{problem} (after {self._attempts} attempts)") from problem
        raise AssertionError("unreachable")

    def _client(self) -> "StockHistoricalDataClient":
        """This thread's client: requests does not promise that a session may be shared."""
        if not hasattr(self._clients, "client"):
            from alpaca.data.historical.stock import StockHistoricalDataClient

            key_id, secret = self._keys
            client = StockHistoricalDataClient(
                key_id, secret, raw_data=True, url_override=self._settings.alpaca_data_url
            )
            client._retry = 0  # stamina retries
            client._session.request = functools.partial(client._session.request, timeout=self._timeout)  # type: ignore[method-assign]
            self._clients.client = client
        return self._clients.client  # type: ignore[no-any-return]


@contextmanager
def _translated(address: str) -> Iterator[None]:
    """The errors of alpaca-py and requests as ours; the one place for it."""
    import requests
    from alpaca.common.exceptions import APIError

    try:
        yield
    except APIError as problem:
        status = problem.status_code or 0
        text = _plain(str(problem))
        if status == 400:
            raise _BadRequest(f"Alpaca rejects the request (HTTP 400): {text}") from problem
        if status == 401:
            raise AlpacaRefused(
                f"Alpaca rejects the keys at {address} (HTTP 401): check APCA_API_KEY_ID and APCA_API_SECRET_KEY"
            ) from problem
        if status == 403:
            raise AlpacaRefused(
                f"Alpaca's subscription does not cover this request (HTTP 403): {text}; on the free plan set "
                "ALPACA_SIP_DELAY_MINUTES=15, or ALPACA_DATA_FEED=iex"
            ) from problem
        raise _Retryable(f"Alpaca answers HTTP {status}: {text}") from problem
    except requests.exceptions.RequestException as problem:
        raise _Retryable(f"Alpaca cannot be reached at {address}: {type(problem).__name__}") from problem
    except (ValueError, TypeError, AttributeError) as problem:
        raise _Retryable(f"Alpaca's answer cannot be read: {type(problem).__name__}: {problem}") from problem


_MALFORMED = (pa.ArrowException, AttributeError, KeyError, OverflowError, TypeError, ValueError)


def _without_culprit(
    problem: _BadRequest, symbols: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """The symbol that Alpaca names as invalid, and what to ask for again; two halves where it names none of ours."""
    named = re.search(r"invalid symbol:?\s*([^\s\"}]+)", str(problem))
    culprit = symbols[0] if len(symbols) == 1 else named.group(1) if named else None
    rest = tuple(symbol for symbol in symbols if symbol != culprit)
    if culprit is not None and len(rest) < len(symbols):
        return (culprit,), (rest,) if rest else ()
    half = len(symbols) // 2
    return (), (symbols[:half], symbols[half:])


def _plain(body: str) -> str:
    """An error body on one line: its message if it has one, HTML tags taken out, cut to what a person reads."""
    with suppress(ValueError, KeyError, TypeError):
        body = str(json.loads(body)["message"])
    return " ".join(re.sub(r"<[^>]+>", " ", body).split())[:200] or "(no text)"


def _table(tables: list[pa.Table]) -> pa.Table:
    return pa.concat_tables(tables) if tables else FETCHED_SCHEMA.empty_table()


def _to_arrow(bars: dict[str, list[dict[str, Any]]], asked: tuple[str, ...]) -> tuple[pa.Table, list[QuarantinedBar]]:
    """One page as Arrow; rows that are not bars are set aside one by one."""
    symbols = [symbol for symbol, rows in bars.items() for _ in rows or ()]
    rows = [row for rows in bars.values() for row in rows or ()]
    stray = set(bars) - set(asked)
    if not stray:
        try:
            return _columns(symbols, rows), []
        except _MALFORMED:
            pass  # at least one row is: find out which
    tables: list[pa.Table] = []
    malformed: list[QuarantinedBar] = []
    for symbol, row in zip(symbols, rows, strict=True):
        try:
            if symbol in stray:
                raise ValueError("the symbol was not asked for")
            tables.append(_columns([symbol], [row]))
        except _MALFORMED as problem:
            malformed.append(QuarantinedBar(symbol, _timestamp(row), f"malformed: {type(problem).__name__}: {problem}"))
    return _table(tables), malformed


def _columns(symbols: list[str], rows: list[dict[str, Any]]) -> pa.Table:
    columns = {
        name: _column([row.get(key) if key in _OPTIONAL else row[key] for row in rows], kind)
        for key, name, kind in _WIRE_COLUMNS
    }
    columns["timestamp"] = columns["timestamp"].cast(pa.timestamp("us", tz="UTC"))
    return pa.table({"symbol": pa.array(symbols, pa.string()), **columns}, schema=FETCHED_SCHEMA)


def _column(values: list[Any], kind: pa.DataType) -> pa.Array:
    """The values as Arrow; a fractional volume fails instead of being cut, a text never passes for a number."""
    column = pa.array(values)
    if pa.types.is_string(column.type) and not pa.types.is_string(kind):
        raise TypeError(f"a text where a number belongs: {values[0]!r}")
    return column.cast(kind)


def _timestamp(row: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(row["t"])
    except (KeyError, TypeError, ValueError):
        return None
