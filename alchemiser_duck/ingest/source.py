"""AlpacaSource: Alpaca's raw bars, actions and quotes, batch by batch.

A batch that cannot be fetched fails alone, a symbol that Alpaca calls invalid is peeled off and named, and memory is
bounded by a batch of symbols.
"""

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from datetime import time as time_of_day
from decimal import Decimal
from typing import Any

import pyarrow as pa

from alchemiser_duck import exchange_calendar as calendar
from alchemiser_duck.bars import AlteredBar, QuarantinedBar, Quote, storable
from alchemiser_duck.errors import AlpacaUnavailable, NoQuote
from alchemiser_duck.ingest.alpaca_client import OF_QUOTES, AlpacaClient, BadRequest
from alchemiser_duck.ingest.wire_bars import FETCHED_SCHEMA, bars_to_arrow, concatenated, listed
from alchemiser_duck.settings import Settings

__all__ = ["FETCHED_SCHEMA", "AlpacaSource", "FetchedActions", "FetchedBatch"]

PAGE_ROWS = 10_000
"""Alpaca's largest page."""

ACTION_PAGE_ROWS = 1_000
"""Alpaca's largest page of corporate actions."""

BATCH_ROWS = 50_000
"""Rows that a batch of symbols is expected to bring: five pages, some 40 MB while it is converted."""

BATCH_SYMBOLS = 200
"""Symbols in one request: keeps its address below 2 kB."""

FIRST_CLOSE_WITHIN = timedelta(days=10)
"""A share that is spun off trades on the ex-date, or not long after."""

WORKERS = 4
"""Batches fetched at once; together they reach the free plan's 200 requests a minute."""

Symbols = tuple[str, ...]


@dataclass(frozen=True)
class FetchedBatch:
    """The answer for one batch of symbols."""

    symbols: Symbols
    bars: pa.Table
    """in FETCHED_SCHEMA, in order of arrival; a symbol without a bar is simply absent"""
    malformed: tuple[QuarantinedBar, ...] = ()
    """rows that are not bars: a text where a number belongs, a symbol that was not asked for"""
    failed: dict[str, str] = field(default_factory=dict)
    """symbols that could not be fetched, and why; another run may"""
    rejected: dict[str, str] = field(default_factory=dict)
    """symbols that Alpaca calls invalid, and its words"""
    altered: tuple[AlteredBar, ...] = ()
    """bars whose volume had fractions of shares"""

    @staticmethod
    def joined(symbols: Symbols, parts: Sequence["FetchedBatch"]) -> "FetchedBatch":
        """Join the answers for parts of a batch."""
        return FetchedBatch(
            symbols,
            concatenated(part.bars for part in parts),
            tuple(bar for part in parts for bar in part.malformed),
            {symbol: reason for part in parts for symbol, reason in part.failed.items()},
            {symbol: reason for part in parts for symbol, reason in part.rejected.items()},
            tuple(bar for part in parts for bar in part.altered),
        )


@dataclass(frozen=True)
class FetchedActions:
    """Corporate actions as Alpaca sends them."""

    lists: dict[str, list[Any]]
    """plural type: rows"""
    failed: dict[str, str]
    """symbols whose actions could not be fetched, and why"""
    announced: dict[str, list[Any]] = field(default_factory=dict)
    """plural type: rows that the vendor has not completed"""
    without_announced: frozenset[str] = frozenset()
    """symbols of which it is not known what is announced"""
    why_not_announced: str = ""

    @property
    def ids(self) -> frozenset[str]:
        """The ids of all rows, malformed ones too."""
        lists = (*self.lists.values(), *self.announced.values())
        return frozenset(row_id for rows in lists for row in rows if (row_id := _id(row)) is not None)

    @staticmethod
    def joined(parts: Iterable["FetchedActions"]) -> "FetchedActions":
        """Join the answers for parts of the symbols, if any."""
        actions = FetchedActions({}, {})
        without: set[str] = set()
        reason = ""
        for part in parts:
            without |= part.without_announced
            reason = reason or part.why_not_announced
            for kind, rows in part.lists.items():
                actions.lists.setdefault(kind, []).extend(rows)
            for kind, rows in part.announced.items():
                actions.announced.setdefault(kind, []).extend(rows)
            actions.failed.update(part.failed)
        return replace(actions, without_announced=frozenset(without), why_not_announced=reason)


class AlpacaSource:
    """Fetches bars, corporate actions and quotes. Safe to share between threads."""

    def __init__(
        self,
        settings: Settings,
        *,
        attempts: int = 7,
        first_wait_seconds: float = 0.5,
        read_timeout_seconds: float = 30,
    ) -> None:
        """The waits between attempts double, with jitter.

        By default a batch is given up after about a minute.

        Raises:
            SettingsError: the keys are not set.
        """
        self._feed = settings.feed
        self._quote_feed = settings.feed_of_quotes
        self._client = AlpacaClient(settings, attempts, first_wait_seconds, read_timeout_seconds)

    @property
    def requests(self) -> int:
        """Count the requests sent so far, retries included."""
        return self._client.requests

    def daily_bars(
        self, symbols: list[str], start: datetime, end: datetime, sessions: int, adjustment: str = "raw"
    ) -> Iterator[FetchedBatch]:
        """Yield daily bars of a period, batch by batch, as they arrive.

        A bar is in it when start <= timestamp <= end.
        A batch that cannot be fetched comes back with all its symbols failed; the others are not touched.

        Args:
            sessions: how many sessions lie between start and end; sizes the batches.
            adjustment: raw, or split, dividend or all: Alpaca's own.

        Raises:
            AlpacaRefused: the keys or the subscription are rejected, which no other batch would survive either.
        """
        size = max(1, min(BATCH_SYMBOLS, BATCH_ROWS // max(sessions, 1)))
        period = {"start": start.isoformat(), "end": end.isoformat(), "adjustment": adjustment}
        batches = _cut(symbols, size)
        with ThreadPoolExecutor(min(WORKERS, len(batches)) or 1) as pool:
            pending: list[Future[FetchedBatch]] = [pool.submit(self._batch, batch, period) for batch in batches]
            try:
                for done in as_completed(pending):
                    yield done.result()
            finally:
                for future in pending:
                    future.cancel()

    def first_close(self, symbol: str, day: date, until: datetime) -> float | None:
        """Fetch the first close of a share that begins to trade on a day, under the ticker that it had then.

        None where it has no bar of FIRST_CLOSE_WITHIN so far, and where Alpaca calls the symbol invalid.

        Args:
            until: not a bar after this moment; no later than the plan may ask for.

        Raises:
            AlpacaRefused, AlpacaUnavailable: Alpaca does not answer as it should.
        """
        start = datetime.combine(day, time_of_day(), calendar.NEW_YORK)
        period = {"start": start.isoformat(), "end": min(start + FIRST_CLOSE_WITHIN, until).isoformat()}
        batch = self._batch((symbol,), period | {"adjustment": "raw", "asof": day.isoformat()})
        if batch.failed:
            raise AlpacaUnavailable(batch.failed[symbol])
        closes = batch.bars.sort_by("timestamp")["close"].to_pylist()
        return closes[0] if closes and math.isfinite(closes[0]) and closes[0] > 0 else None

    def latest_quote(self, symbol: str) -> Quote:
        """Fetch the newest bid and ask.

        Raises:
            NoQuote: Alpaca has none, or one side of it is empty.
            AlpacaRefused, AlpacaUnavailable: Alpaca does not answer as it should.
        """
        feed = self._quote_feed
        answer = self._client.page("/stocks/quotes/latest", {"symbols": symbol, "feed": feed}, advice=OF_QUOTES)
        quote = (answer.get("quotes") or {}).get(symbol)
        if not quote or not quote.get("bp") or not quote.get("ap"):
            raise NoQuote(f"Alpaca has no two-sided quote of {symbol!r} on feed {feed}: nothing is made up")
        return Quote(
            symbol=symbol,
            timestamp=datetime.fromisoformat(quote["t"]),
            bid=Decimal(str(quote["bp"])),
            ask=Decimal(str(quote["ap"])),
            bid_size=Decimal(str(quote.get("bs", 0))),
            ask_size=Decimal(str(quote.get("as", 0))),
            feed=feed,
        )

    def corporate_actions(
        self, symbols: list[str], first: date, last: date, *, with_announced: bool = False
    ) -> FetchedActions:
        """Fetch all corporate actions that Alpaca processes from first to last.

        The dates are process dates, which for a dividend lie weeks after its ex-date.

        Args:
            with_announced: ask once more for those that Alpaca has not completed, which it hides by default.

        Raises:
            AlpacaRefused: the keys or the subscription are rejected.
        """
        batches = _cut(symbols, BATCH_SYMBOLS)
        with ThreadPoolExecutor(min(WORKERS, len(batches)) or 1) as pool:
            complete = FetchedActions.joined(pool.map(lambda batch: self._actions_batch(batch, first, last), batches))
            if not with_announced:
                return complete
            parts = pool.map(lambda batch: self._actions_batch(batch, first, last, "all"), batches)
            every = FetchedActions.joined(parts)
        known = {_id(row) for rows in complete.lists.values() for row in rows}
        announced = {kind: [row for row in rows if _id(row) not in known] for kind, rows in every.lists.items()}
        reason = next(iter(every.failed.values()), "")
        return replace(
            complete, announced=announced, without_announced=frozenset(every.failed), why_not_announced=reason
        )

    def _actions_batch(self, symbols: Symbols, first: date, last: date, quality: str | None = None) -> FetchedActions:
        query = {
            "symbols": ",".join(symbols),
            "start": first.isoformat(),
            "end": last.isoformat(),
            "limit": ACTION_PAGE_ROWS,
            "sort": "asc",
            **({"data_quality": quality} if quality else {}),
        }
        try:
            pages = [
                {kind: listed(rows) for kind, rows in (answer["corporate_actions"] or {}).items()}
                for answer in self._client.pages("/corporate-actions", query, api_version="v1")
            ]
            return FetchedActions.joined(FetchedActions(lists, {}) for lists in pages)
        except BadRequest as problem:
            culprit, parts = _without_culprit(problem, symbols)
            failed = FetchedActions({}, dict.fromkeys(culprit, str(problem)))
            if quality and not culprit:  # Alpaca does not know the parameter: nothing is known to be announced
                return FetchedActions({}, dict.fromkeys(symbols, str(problem)))
            rest = (self._actions_batch(part, first, last, quality) for part in parts)
            return FetchedActions.joined([failed, *rest])
        except AlpacaUnavailable as problem:
            return FetchedActions({}, dict.fromkeys(symbols, str(problem)))

    def _batch(self, symbols: Symbols, period: dict[str, str]) -> FetchedBatch:
        query = {
            "symbols": ",".join(symbols),
            "timeframe": "1Day",
            **period,
            "limit": PAGE_ROWS,
            "feed": self._feed,
            "sort": "asc",
        }
        try:
            pages = [
                bars_to_arrow(answer.get("bars") or {}, symbols) for answer in self._client.pages("/stocks/bars", query)
            ]
            malformed = tuple(bar for page in pages for bar in page.malformed)
            altered = tuple(bar for page in pages for bar in page.altered)
            return FetchedBatch(symbols, concatenated(page.bars for page in pages), malformed, altered=altered)
        except BadRequest as problem:
            culprit, parts = _without_culprit(problem, symbols)
            rejected = FetchedBatch(culprit, concatenated(()), rejected=dict.fromkeys(culprit, str(problem)))
            return FetchedBatch.joined(symbols, [rejected, *(self._batch(part, period) for part in parts)])
        except AlpacaUnavailable as problem:
            return FetchedBatch(symbols, concatenated(()), failed=dict.fromkeys(symbols, str(problem)))


def _id(row: Any) -> str | None:
    """Return a row's id, if it has one that can be stored."""
    row_id = row.get("id") if isinstance(row, dict) else None
    return row_id if isinstance(row_id, str) and row_id == storable(row_id) else None


def _cut(symbols: list[str], size: int) -> list[Symbols]:
    return [tuple(symbols[i : i + size]) for i in range(0, len(symbols), size)]


def _without_culprit(problem: BadRequest, symbols: Symbols) -> tuple[Symbols, tuple[Symbols, ...]]:
    """Return the invalid symbol and the rest, or two halves."""
    named = re.search(r"invalid symbol:?\s*([^\s\"}]+)", str(problem))
    culprit = symbols[0] if len(symbols) == 1 else named.group(1) if named else None
    rest = tuple(symbol for symbol in symbols if symbol != culprit)
    if culprit is not None and len(rest) < len(symbols):
        return (culprit,), (rest,) if rest else ()
    half = len(symbols) // 2
    return (), (symbols[:half], symbols[half:])
