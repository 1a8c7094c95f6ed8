"""DataRefreshService: brings bars from Alpaca into the lake, overnight and right after the close."""

import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from datetime import time as time_of_day

import pyarrow as pa
import pyarrow.compute as pc

from alchemiser_duck import exchange_calendar as calendar
from alchemiser_duck.bars import QuarantinedBar
from alchemiser_duck.data_freshness_validator import Finding
from alchemiser_duck.errors import (
    AlpacaError,
    BadParameter,
    BarNotComplete,
    NothingToRefresh,
    StorageError,
    StorageRefused,
)
from alchemiser_duck.ingest.corporate_actions import read_actions
from alchemiser_duck.ingest.merge import INCOMING_SCHEMA, Changes, by_year, session_dates
from alchemiser_duck.ingest.run_reports import Mode, RefreshReport, ShortHistory, SymbolOutcome
from alchemiser_duck.ingest.source import AlpacaSource
from alchemiser_duck.market_data_store import MarketDataStore
from alchemiser_duck.settings import Settings
from alchemiser_duck.symbol_extractor import SymbolExtractor, configured_symbols

HISTORY_START = date(2016, 1, 1)
"""Alpaca's history begins here."""

SPAN_ROWS = 2_500_000
"""Bars held in memory at once: years are fetched together as long as they are expected to stay below this."""

SESSIONS_A_YEAR = 252

RECENT_DAYS = 30
"""A symbol with a bar this recent is refreshed after the close when no symbols are named."""

PROCESSED_EARLIER = timedelta(days=45)
PROCESSED_LATER = timedelta(days=366)
"""Alpaca is asked by process date: a dividend's lies weeks after its ex-date, an announced one's up to a year ahead."""

SUSPICION = timedelta(days=10)
"""How recent an overnight move without an action is counted as a new suspect."""

SESSIONS_FROM = date(2000, 1, 1)
"""The relation sessions begins here, and ends with next year."""

Stop = Callable[[], bool]
"""Asked between two batches: whether to stop now, keeping what is done."""

Progress = Callable[[int, int, int], None]
"""Told after each batch: symbols x years done, of how many, bars fetched so far."""


@dataclass
class _Tally:
    """What a run has done so far."""

    changes: dict[str, Changes] = field(default_factory=lambda: defaultdict(Changes))
    seen: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)
    rejected: dict[str, str] = field(default_factory=dict)
    """symbols that Alpaca calls invalid: not asked for again"""
    is_stopped: bool = False
    left: dict[str, str] = field(default_factory=dict)
    """symbols that a stop left undone: why"""
    quarantined: list[QuarantinedBar] = field(default_factory=list)
    written: list[str] = field(default_factory=list)
    unchanged: int = 0
    failures: list[str] = field(default_factory=list)
    actions_added: int = 0
    actions_changed: int = 0
    new_suspects: int = 0
    fetched: int = 0
    done: int = 0

    def outcomes(self, symbols: list[str]) -> tuple[SymbolOutcome, ...]:
        return tuple(self._outcome(symbol) for symbol in symbols)

    def _outcome(self, symbol: str) -> SymbolOutcome:
        changes = self.changes.get(symbol, Changes())
        if reason := self.rejected.get(symbol) or self.failed.get(symbol) or self.left.get(symbol):
            return SymbolOutcome(symbol, "failed", changes, reason)
        return SymbolOutcome(symbol, "ok" if symbol in self.seen else "no_data", changes)


class DataRefreshService:
    """Refreshes a lake from Alpaca. Every method takes the time it runs at; by default that is the clock's."""

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
        """Bring the whole history of the symbols, from start to the last complete session.

        Only partitions whose content changes are written. Provisional bars are finalised, restated ones replaced, both
        counted. Each year is stored as soon as it is fetched, so a run that dies is completed by running it again.

        Args:
            symbols: default: ALCHEMISER_SYMBOLS and those of ALCHEMISER_STRATEGIES, else every stored symbol.
            stop: what it leaves undone is in the report's `left`; running again completes it.

        Raises:
            NothingToRefresh: there is no symbol to refresh.
            MalformedFile: a strategy file cannot be read.
            AlpacaRefused: Alpaca rejects the keys or the subscription.
            FeedMismatch: the lake holds another feed's bars.
        """
        now = now or calendar.utc_now()
        last = calendar.last_complete_session(now, self._delay)
        if start > last:
            raise BadParameter(f"start {start} is after the last complete session, {last}")
        wanted = self._universe(symbols, self._store.list_symbols)
        self._store.require_feed(self._settings.feed)  # before Alpaca is asked for anything
        return self._run("overnight", wanted, start, last, now, progress, stop)

    def post_close(
        self,
        symbols: list[str] | None = None,
        *,
        now: datetime | None = None,
        wait: bool = False,
        progress: Progress | None = None,
        stop: Stop | None = None,
    ) -> RefreshReport:
        """Add today's completed daily bar; touches one partition. On a day without a session it does nothing.

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
        if not calendar.is_session(today):
            return self._nothing_to_do(now, f"{today} is not a session of the exchange: nothing to do")
        ready = calendar.complete_from(today, self._delay)
        if now < ready:
            if not wait:
                raise BarNotComplete(
                    f"today's bar is complete at {_clock_time(calendar.session_close(today))} New York and visible "
                    f"{self._settings.sip_delay_minutes} minutes later: run this from {_clock_time(ready)} New York "
                    "on, or add --wait (wait=True); with real-time SIP set ALPACA_SIP_DELAY_MINUTES=0"
                )
            while (left := (ready - calendar.utc_now()).total_seconds()) > 0 and not (stop and stop()):
                time.sleep(min(left, 5))  # by the clock: a replay of an earlier day has nothing to wait for
            if left > 0:
                raise BarNotComplete(
                    f"today's bar is complete from {_clock_time(ready)} New York on, after the deadline"
                )
            now = ready
        wanted = self._universe(symbols, lambda: self._store.recent_symbols(today - timedelta(days=RECENT_DAYS), today))
        return self._run("post_close", wanted, today, today, now, progress, stop)

    def fetch(
        self, symbols: list[str], first: date, last: date, mode: Mode = "repair", *, now: datetime | None = None
    ) -> RefreshReport:
        """Bring the bars of some symbols from first to last, no later than the last complete session.

        Raises:
            BadParameter: a symbol is not one, or first is after last or after the last complete session.
            AlpacaRefused, FeedMismatch: as above.
        """
        now = now or calendar.utc_now()
        last = min(last, calendar.last_complete_session(now, self._delay))
        if first > last:
            raise BadParameter(f"there is nothing to fetch from {first} on: the last complete session is {last}")
        return self._run(mode, self._universe(symbols, list), first, last, now, None, None)

    def repair(self, findings: Iterable[Finding], *, now: datetime | None = None) -> list[RefreshReport]:
        """Fetch exactly what the findings name: one run for each range of sessions, oldest first; empty without any.

        Raises:
            AlpacaRefused, FeedMismatch: as above.
        """
        now = now or calendar.utc_now()
        today = calendar.new_york_date(now)
        ranges: dict[tuple[date, date], list[str]] = defaultdict(list)
        for finding in findings:
            span = finding.first_session or HISTORY_START, finding.last_session or today
            ranges[span].append(finding.symbol)
        return [self.fetch(symbols, *span, now=now) for span, symbols in sorted(ranges.items())]

    def _universe(self, symbols: list[str] | None, stored: Callable[[], list[str]]) -> list[str]:
        named = symbols if symbols is not None else configured_symbols(self._settings)
        if not named and symbols is None:
            named = stored()
        wanted = list(dict.fromkeys(named))
        for symbol in wanted:
            if not symbol or "," in symbol or symbol != symbol.strip():
                raise BadParameter(f"{symbol!r} is not a symbol: name tickers as Alpaca does, for example BRK.B")
        if not wanted:
            raise NothingToRefresh(
                f"no symbols were named and none are stored in {self._settings.lake_url}: add --symbols AAPL,MSFT or "
                "export ALCHEMISER_SYMBOLS=AAPL,MSFT"
            )
        return wanted

    def _run(
        self,
        mode: Mode,
        symbols: list[str],
        first: date,
        last: date,
        now: datetime,
        progress: Progress | None,
        stop: Stop | None,
    ) -> RefreshReport:
        clock = time.monotonic()
        traffic, requests = self._store.traffic, self._source.requests
        run_id = f"{now:%Y%m%dT%H%M%SZ}-{mode}-{uuid.uuid4().hex[:8]}"
        tally = _Tally()
        spans = list(_spans(first, last, len(symbols)))
        for done, (span_first, span_last) in enumerate(spans, 1):
            table = self._fetch(symbols, span_first, span_last, now, tally, len(spans), progress, stop)
            self._store_years(table, run_id, tally)
            del table  # before the next span is fetched: one span in memory
            if tally.is_stopped and done < len(spans):
                tally.left = dict.fromkeys(symbols, f"stopped before its bars after {span_last} were asked for")
                break
        if tally.left:
            tally.failures.append(f"stopped before {len(tally.left)} symbols were done: run the same again")
        else:
            self._refresh_actions(symbols, first, now, tally, everything=mode == "overnight")
        if mode != "post_close":  # which has few requests to spend
            self._store_sessions(now, tally)
        seconds = time.monotonic() - clock
        sent = self._store.traffic - traffic
        report = RefreshReport(
            run_id=run_id,
            mode=mode,
            started_at=now,
            finished_at=now + timedelta(seconds=seconds),
            feed=self._settings.feed,
            first_session=first,
            last_session=last,
            outcomes=tally.outcomes(symbols),
            quarantined=tuple(tally.quarantined),
            partitions_written=tuple(tally.written),
            partitions_unchanged=tally.unchanged,
            failures=tuple(tally.failures),
            left=tuple(tally.left),
            short_history=self._short_history(tally) if mode == "overnight" else (),
            actions_added=tally.actions_added,
            actions_changed=tally.actions_changed,
            new_suspects=tally.new_suspects,
            alpaca_requests=self._source.requests - requests,
            s3_requests=sent.requests,
            s3_bytes_sent=sent.bytes_sent,
            s3_bytes_received=sent.bytes_received,
            seconds=seconds,
        )
        return self._append(report)

    def _append(self, report: RefreshReport) -> RefreshReport:
        """Append the report to the audit trail; a run whose record is lost has still stored its bars."""
        before = self._store.traffic
        try:
            self._store.append_run(report.key, report.record())
        except StorageError as problem:
            report = replace(report, failures=(*report.failures, f"{report.key}: {problem}"))
        extra = self._store.traffic - before
        return replace(
            report,
            s3_requests=report.s3_requests + extra.requests,
            s3_bytes_sent=report.s3_bytes_sent + extra.bytes_sent,
            s3_bytes_received=report.s3_bytes_received + extra.bytes_received,
        )

    def _fetch(
        self,
        symbols: list[str],
        first: date,
        last: date,
        now: datetime,
        tally: _Tally,
        spans: int,
        progress: Progress | None,
        stop: Stop | None,
    ) -> pa.Table:
        """The bars of one span, those of incomplete sessions set aside."""
        start = datetime.combine(first, time_of_day(), calendar.NEW_YORK)
        # the end of the last session's day, but never more recent than the plan may ask for
        end = min(
            datetime.combine(last, time_of_day(23, 59, 59), calendar.NEW_YORK),
            (now - self._delay - timedelta(minutes=1 if self._delay else 0)).astimezone(calendar.NEW_YORK),
        )
        wanted = [symbol for symbol in symbols if symbol not in tally.rejected]
        tables = []
        waiting = dict.fromkeys(wanted)
        for batch in self._source.daily_bars(wanted, start, end, len(calendar.sessions(first, last))):
            tables.append(batch.bars)
            tally.failed |= batch.failed
            tally.rejected |= batch.rejected
            tally.quarantined += batch.malformed
            tally.seen.update(pc.unique(batch.bars["symbol"]).to_pylist())
            tally.fetched += batch.bars.num_rows
            tally.done += len(batch.symbols)
            for symbol in batch.symbols:
                waiting.pop(symbol, None)
            if progress:
                progress(tally.done, len(symbols) * spans, tally.fetched)
            if stop and stop():
                tally.is_stopped = True
                break
        tally.left = dict.fromkeys(waiting, f"stopped before its bars from {first} on were asked for")
        if not tables:
            return INCOMING_SCHEMA.empty_table()
        return self._with_finality(pa.concat_tables(tables), first, last, now, tally)

    def _with_finality(self, bars: pa.Table, first: date, last: date, now: datetime, tally: _Tally) -> pa.Table:
        """Tell final bars from provisional ones, and set aside what lies outside the sessions asked for."""
        day = session_dates(bars)
        inside = pc.fill_null(pc.and_(pc.greater_equal(day, first), pc.less_equal(day, last)), False)
        final = pc.less_equal(day, calendar.last_final_session(now, self._delay))
        bars = bars.append_column("is_final", final)
        if pc.all(inside).as_py():
            return bars  # the daily case: no copy
        for row in bars.filter(pc.invert(inside)).select(["symbol", "timestamp"]).to_pylist():
            reason = f"outside the complete sessions asked for, {first} to {last}"
            tally.quarantined.append(QuarantinedBar(row["symbol"], row["timestamp"], reason))
        return bars.filter(inside)

    def _store_years(self, bars: pa.Table, run_id: str, tally: _Tally) -> None:
        """Write year by year, so that a partition that cannot be written never loses the others."""
        for year, part in by_year(bars, session_dates(bars)):
            try:
                written = self._store.write_bars(part, feed=self._settings.feed, run_id=run_id)
            except StorageRefused:
                raise
            except StorageError as problem:
                tally.failures.append(str(problem))
                for symbol in pc.unique(part["symbol"]).to_pylist():
                    tally.failed.setdefault(symbol, f"{year} was not stored: {problem}")
                continue
            tally.quarantined += written.quarantined
            for symbol, changes in written.changes.items():
                tally.changes[symbol] += changes
            tally.written += [write.partition.key for write in written.partitions if write.written]
            tally.unchanged += sum(not write.written for write in written.partitions)

    def _refresh_actions(
        self, symbols: list[str], first: date, now: datetime, tally: _Tally, *, everything: bool
    ) -> None:
        """Bring the corporate actions; what goes wrong here never touches the bars that are stored already."""
        today = calendar.new_york_date(now)
        asked = [symbol for symbol in symbols if symbol not in tally.rejected]
        try:
            fetched = self._source.corporate_actions(asked, first - PROCESSED_EARLIER, today + PROCESSED_LATER)
            actions, malformed = read_actions(fetched.lists, now)
            tally.quarantined += malformed
            for reason in sorted(set(fetched.failed.values())):
                failed = [symbol for symbol, why in fetched.failed.items() if why == reason]
                tally.failures.append(f"corporate actions of {len(failed)} symbols were not fetched: {reason}")
            merged = self._store.actions.merge(actions, today, everything=everything)
            tally.actions_added, tally.actions_changed = merged.added, merged.changed
            if everything:
                tally.new_suspects = self._store.actions.count_suspects(merged, today - SUSPICION)
        except (AlpacaError, StorageError) as problem:
            tally.failures.append(f"corporate actions: {problem}")

    def _short_history(self, tally: _Tally) -> tuple[ShortHistory, ...]:
        """The symbols of which fewer bars are stored than the strategies' windows need."""
        if not self._settings.strategies:
            return ()
        needed = {one.symbol: one.bars_needed for one in SymbolExtractor().extract(self._settings.strategies).symbols}
        try:
            stored = self._store.metadata_of(list(needed))
        except StorageError as problem:
            tally.failures.append(f"stored bars could not be counted: {problem}")
            return ()
        counts = {symbol: stored[symbol].bars if symbol in stored else 0 for symbol in needed}
        return tuple(ShortHistory(s, counts[s], bars) for s, bars in needed.items() if counts[s] < bars)

    def _store_sessions(self, now: datetime, tally: _Tally) -> None:
        last = date(calendar.new_york_date(now).year + 1, 12, 31)
        try:
            self._store.write_sessions(calendar.session_table(SESSIONS_FROM, last))
        except StorageError as problem:
            tally.failures.append(f"sessions: {problem}")

    def _nothing_to_do(self, now: datetime, note: str) -> RefreshReport:
        return RefreshReport(
            run_id="",
            mode="post_close",
            started_at=now,
            finished_at=now,
            feed=self._settings.feed,
            first_session=None,
            last_session=None,
            note=note,
        )


def _spans(first: date, last: date, symbols: int) -> Iterator[tuple[date, date]]:
    """Cut a range of days into runs of whole years that bring few enough bars to hold in memory."""
    years = min(max(1, SPAN_ROWS // (SESSIONS_A_YEAR * symbols)), last.year - first.year + 1)
    for year in range(first.year, last.year + 1, years):
        yield max(first, date(year, 1, 1)), min(last, date(year + years - 1, 12, 31))


def _clock_time(moment: datetime) -> str:
    return f"{moment.astimezone(calendar.NEW_YORK):%Y-%m-%d %H:%M}"
