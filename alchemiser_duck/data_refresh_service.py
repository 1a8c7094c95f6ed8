"""DataRefreshService: brings Alpaca's bars into the lake, overnight and after the close.

What a run does step by step: ingest/refresh_run.py.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import date, datetime, timedelta

from alchemiser_duck import exchange_calendar as calendar
from alchemiser_duck.bars import FORMER, in_alpaca_form
from alchemiser_duck.data_freshness_validator import DataIssue
from alchemiser_duck.errors import BadParameter, BarNotComplete, NothingToRefresh
from alchemiser_duck.ingest.refresh_run import Progress, RefreshRun, RunRequest, Stop
from alchemiser_duck.ingest.run_reports import Mode, RefreshReport, ShortHistory
from alchemiser_duck.ingest.source import AlpacaSource
from alchemiser_duck.market_data_store import MarketDataStore
from alchemiser_duck.settings import Settings
from alchemiser_duck.symbol_extractor import SymbolExtractor, configured_symbols

HISTORY_START = date(2016, 1, 1)
"""Alpaca's history begins here."""

ACTIVE_WITHIN = timedelta(days=30)
"""A symbol with a bar this recent is refreshed after the close when no symbols are named."""


class DataRefreshService:
    """Refreshes a lake from Alpaca.

    Every method takes the time it runs at; by default that is the clock's.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        store: MarketDataStore | None = None,
        source: AlpacaSource | None = None,
    ) -> None:
        self._settings = settings or Settings.from_environment()
        self._store = store or MarketDataStore(self._settings)
        self._source = source or AlpacaSource(self._settings)
        self._delay = timedelta(minutes=self._settings.sip_delay_minutes)

    def overnight(
        self,
        symbols: list[str] | None = None,
        start: date = HISTORY_START,
        *,
        now: datetime | None = None,
        progress: Progress | None = None,
        stop: Stop | None = None,
    ) -> RefreshReport:
        """Bring the whole history, up to the last complete session.

        Only partitions whose content changes are written. Provisional bars are finalised, restated ones replaced, both
        counted. Each year is stored as soon as it is fetched, so a run that dies is completed by running it again.

        Args:
            symbols: default: ALCHEMISER_SYMBOLS and those of ALCHEMISER_STRATEGIES, else every stored symbol.
            stop: the symbols that it leaves undone are in the report's `left`; running again completes them.

        Raises:
            NothingToRefresh: there is no symbol to refresh.
            MalformedFile: a strategy file cannot be read.
            AlpacaRefused: Alpaca rejects the keys or the subscription.
            FeedMismatch: the lake holds another feed's bars.
        """
        now = now or calendar.utc_now()
        last = calendar.last_complete_session(now, self._delay, self._settings.closures)
        if start > last:
            raise BadParameter(f"start {start} is after the last complete session, {last}")
        universe = self._universe(symbols, self._store.list_symbols)
        self._store.require_feed(self._settings.feed)  # before Alpaca is asked for anything
        return self._run(RunRequest("overnight", universe, start, last, now, progress, stop, self._short_history))

    def post_close(
        self,
        symbols: list[str] | None = None,
        *,
        now: datetime | None = None,
        wait: bool = False,
        progress: Progress | None = None,
        stop: Stop | None = None,
    ) -> RefreshReport:
        """Add today's completed daily bar; touches one partition.

        On a day without a session it does nothing, and the report's `note` says so.

        Args:
            symbols: default: ALCHEMISER_SYMBOLS and those of ALCHEMISER_STRATEGIES, else every symbol with a bar in the
                last 30 days.
            wait: sleep until today's bar can be complete, instead of refusing.

        Raises:
            BarNotComplete: the session is not over, or the plan's delay still hides the close.
            NothingToRefresh, MalformedFile, AlpacaRefused, FeedMismatch: as above.
        """
        now = now or calendar.utc_now()
        today = calendar.new_york_date(now)
        if not calendar.is_session(today, self._settings.closures):
            if calendar.is_session(today):
                known = calendar.known_sessions(now, self._settings.closures)
                self._store.write_sessions(known)  # no reader shall wait for today's bars
            return RefreshReport(
                run_id="",
                mode="post_close",
                started_at=now,
                finished_at=now,
                feed=self._settings.feed,
                first_session=None,
                last_session=None,
                note=f"{today} is not a session of the exchange: nothing to do",
            )
        now = self._when_complete(today, now, stop, wait=wait)
        universe = self._universe(symbols, lambda: self._store.recent_symbols(today - ACTIVE_WITHIN, today))
        return self._run(RunRequest("post_close", universe, today, today, now, progress, stop))

    def fetch(
        self, symbols: list[str], first: date, last: date, mode: Mode = "repair", *, now: datetime | None = None
    ) -> RefreshReport:
        """Bring the bars of some symbols from first to last.

        The last complete session is the newest that is asked for.

        Raises:
            BadParameter: a symbol is not one, or first is after last or after the last complete session.
            AlpacaRefused, FeedMismatch: as above.
        """
        now = now or calendar.utc_now()
        last = min(last, calendar.last_complete_session(now, self._delay, self._settings.closures))
        if first > last:
            raise BadParameter(f"there is nothing to fetch from {first} on: the last complete session is {last}")
        return self._run(RunRequest(mode, self._universe(symbols, list), first, last, now))

    def repair(self, findings: Iterable[DataIssue], *, now: datetime | None = None) -> list[RefreshReport]:
        """Fetch exactly what the findings name, oldest first; empty without any that can be fetched.

        There is one run for each range of sessions.

        Raises:
            AlpacaRefused, FeedMismatch: as above.
        """
        now = now or calendar.utc_now()
        today = calendar.new_york_date(now)
        ranges: dict[tuple[date, date], list[str]] = defaultdict(list)
        for issue in findings:
            if not issue.can_be_fetched:
                continue
            span = issue.first_session or HISTORY_START, issue.last_session or today
            ranges[span].append(issue.symbol)
        return [self.fetch(symbols, *span, now=now) for span, symbols in sorted(ranges.items())]

    def _run(self, request: RunRequest) -> RefreshReport:
        return RefreshRun(self._settings, self._source, self._store, request)()

    def _universe(self, symbols: list[str] | None, stored: Callable[[], list[str]]) -> list[str]:
        named = symbols if symbols is not None else configured_symbols(self._settings)
        if not named and symbols is None:
            named = stored()
        for symbol in named:
            if not symbol or "," in symbol or symbol != symbol.strip():
                raise BadParameter(f"{symbol!r} is not a symbol: name tickers as Alpaca does, for example BRK.B")
        # the vendor knows nothing of a former owner's series
        universe = list(dict.fromkeys(in_alpaca_form(symbol) for symbol in named if not FORMER.fullmatch(symbol)))
        if not universe:
            raise NothingToRefresh(
                f"no symbols were named and none are stored in {self._settings.lake_url}: add --symbols AAPL,MSFT or "
                "export ALCHEMISER_SYMBOLS=AAPL,MSFT"
            )
        return universe

    def _when_complete(self, today: date, now: datetime, stop: Stop | None, *, wait: bool) -> datetime:
        """Return now, or the moment from which today's bar is complete."""
        ready = calendar.complete_from(today, self._delay)
        if now >= ready:
            return now
        if not wait:
            raise BarNotComplete(
                f"today's bar is complete at {_clock_time(calendar.session_close(today))} New York and visible "
                f"{self._settings.sip_delay_minutes} minutes later: run this from {_clock_time(ready)} New York "
                "on, or add --wait (wait=True); with real-time SIP set ALPACA_SIP_DELAY_MINUTES=0"
            )
        while (left := (ready - calendar.utc_now()).total_seconds()) > 0 and not (stop and stop()):
            time.sleep(min(left, 5))  # by the clock: a replay of an earlier day has nothing to wait for
        if left > 0:
            raise BarNotComplete(f"today's bar is complete from {_clock_time(ready)} New York on, after the deadline")
        return ready

    def _short_history(self) -> tuple[ShortHistory, ...]:
        """List the symbols with fewer stored bars than the strategies' windows need."""
        if not self._settings.strategies:
            return ()
        extraction = SymbolExtractor().extract(self._settings.strategies)
        needed = {extracted.symbol: extracted.bars_needed for extracted in extraction.symbols}
        stored = self._store.metadata_of(list(needed))
        counts = {symbol: stored[symbol].bars if symbol in stored else 0 for symbol in needed}
        return tuple(ShortHistory(s, counts[s], bars) for s, bars in needed.items() if counts[s] < bars)


def _clock_time(moment: datetime) -> str:
    return f"{moment.astimezone(calendar.NEW_YORK):%Y-%m-%d %H:%M}"
