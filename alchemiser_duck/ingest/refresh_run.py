"""RefreshRun: one refresh, from the first request to the appended report.

Years are fetched together as long as they fit in memory, and stored as soon as they are there. If a run is killed, no
bar is torn or lost: run it again to finish.
"""

import json
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from datetime import time as time_of_day

import pyarrow as pa
import pyarrow.compute as pc

from alchemiser_duck import exchange_calendar as calendar
from alchemiser_duck.bars import AlteredBar, QuarantinedBar
from alchemiser_duck.errors import AlpacaError, StorageError, StorageRefused
from alchemiser_duck.ingest.corporate_actions import Action, Answer, MergedActions, read_actions
from alchemiser_duck.ingest.departures import Answered, former_name
from alchemiser_duck.ingest.identities import later_tickers, predecessors, renames_in
from alchemiser_duck.ingest.lake_writer import LakeWriter
from alchemiser_duck.ingest.merge import INCOMING_SCHEMA, Changes, by_year, session_dates
from alchemiser_duck.ingest.run_reports import Mode, RefreshReport, ShortHistory, SymbolOutcome
from alchemiser_duck.ingest.source import AlpacaSource, FetchedActions, FetchedBatch
from alchemiser_duck.lake.io_stats import Traffic
from alchemiser_duck.settings import Settings

_NOT_SENT = frozenset({"symbol", "day", "is_final"})

SPAN_ROWS = 2_500_000
"""Bars held in memory at once: years are fetched together as long as they are expected to stay below this."""

SESSIONS_A_YEAR = 252

PROCESSED_EARLIER = timedelta(days=45)
PROCESSED_LATER = timedelta(days=366)
"""Alpaca is asked by process date: a dividend's lies weeks after its ex-date, an announced one's up to a year ahead."""

SUSPECT_WINDOW = timedelta(days=10)
"""An overnight move without an action that is no older than this counts as a new suspect."""

Stop = Callable[[], bool]
"""Asked between two batches whether to stop now, keeping what is done."""

Progress = Callable[[int, int, int], None]
"""Called after each batch: symbols x years done, of how many, bars fetched so far."""


@dataclass(frozen=True)
class RunRequest:
    """The symbols and sessions that a run brings, and its watchers."""

    mode: Mode
    symbols: list[str]
    first: date
    last: date
    now: datetime
    progress: Progress | None = None
    stop: Stop | None = None
    short_history: Callable[[], tuple[ShortHistory, ...]] = tuple
    """called when the bars are stored"""


@dataclass
class _Tally:
    """The state of a run so far."""

    changes: dict[str, Changes] = field(default_factory=lambda: defaultdict(Changes))
    seen: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)
    rejected: dict[str, str] = field(default_factory=dict)
    """symbols that Alpaca calls invalid: not asked for again"""
    is_stopped: bool = False
    left: dict[str, str] = field(default_factory=dict)
    """symbols that a stop left undone, and why"""
    quarantined: list[QuarantinedBar] = field(default_factory=list)
    altered: list[AlteredBar] = field(default_factory=list)
    former: dict[str, date] = field(default_factory=dict)
    written: list[str] = field(default_factory=list)
    unchanged: int = 0
    failures: list[str] = field(default_factory=list)
    actions_added: int = 0
    actions_changed: int = 0
    actions_withdrawn: int = 0
    new_suspects: int = 0
    note: str | None = None
    fetched: int = 0
    done: int = 0

    def add(self, batch: FetchedBatch) -> None:
        """Count a fetched batch."""
        self.failed |= batch.failed
        self.rejected |= batch.rejected
        self.quarantined += batch.malformed
        self.altered += batch.altered
        self.seen.update(pc.unique(batch.bars["symbol"]).to_pylist())
        self.fetched += batch.bars.num_rows
        self.done += len(batch.symbols)

    def outcome(self, symbol: str) -> SymbolOutcome:
        """Return the outcome of one symbol."""
        changes = self.changes.get(symbol, Changes())
        if reason := self.rejected.get(symbol) or self.failed.get(symbol) or self.left.get(symbol):
            return SymbolOutcome(symbol, "failed", changes, reason)
        return SymbolOutcome(symbol, "ok" if symbol in self.seen else "no_data", changes)


class RefreshRun:
    """One run; call it once."""

    def __init__(self, settings: Settings, source: AlpacaSource, writer: LakeWriter, request: RunRequest) -> None:
        self._settings = settings
        self._source = source
        self._writer = writer
        self._request = request
        self._delay = timedelta(minutes=settings.sip_delay_minutes)
        self._run_id = f"{request.now:%Y%m%dT%H%M%SZ}-{request.mode}-{uuid.uuid4().hex[:8]}"
        self._tally = _Tally()

    def __call__(self) -> RefreshReport:
        """Fetch and store bars, actions and sessions, and report.

        Raises:
            AlpacaRefused: Alpaca rejects the keys or the subscription.
            FeedMismatch, StorageRefused: the lake does not take these bars.
        """
        clock, traffic, requests = time.monotonic(), self._writer.traffic, self._source.requests
        self._refresh()
        if self._request.mode != "post_close":  # which has few requests to spend
            self._store_sessions()
        seconds = time.monotonic() - clock
        sent = self._writer.traffic - traffic
        report = replace(
            self._report(),
            finished_at=self._request.now + timedelta(seconds=seconds),
            alpaca_requests=self._source.requests - requests,
            seconds=seconds,
        )
        return self._append(_with_traffic(report, sent))

    def _refresh(self) -> None:
        """Store actions, then bars, then what of the actions only these bars tell.

        A reader in between meets a split before the bars that it splits: the whole series at another scale, where bars
        before their split would make a fall of it.
        """
        request, tally = self._request, self._tally
        spans = list(year_spans(request.first, request.last, len(request.symbols)))
        for done, (first, last) in enumerate(spans, 1):
            bars = self._fetch(first, last, len(spans))
            if done == 1:
                fetched = self._fetch_actions()
                merged = self._store_actions(fetched) if self._is_ahead(fetched) else None
            is_whole = request.mode == "overnight"
            answered = Answered.of(bars["symbol"], session_dates(bars), first, last) if is_whole else None
            self._store_years(bars, answered)
            del bars  # before the next span is fetched: one span in memory
            if tally.is_stopped and done < len(spans):
                tally.left = dict.fromkeys(request.symbols, f"stopped before its bars after {last} were asked for")
                break
        if tally.left:
            tally.failures.append(f"stopped before {len(tally.left)} symbols were done: run the same again")
        self._settle_actions(merged or self._store_actions(fetched))

    def _fetch(self, first: date, last: date, spans: int) -> pa.Table:
        """Fetch the bars of one span, without incomplete sessions."""
        request, tally = self._request, self._tally
        start = datetime.combine(first, time_of_day(), calendar.NEW_YORK)
        end = min(
            datetime.combine(last, time_of_day(23, 59, 59), calendar.NEW_YORK),
            self._newest_moment,
        )
        symbols = [symbol for symbol in request.symbols if symbol not in tally.rejected]
        tables, waiting = [], dict.fromkeys(symbols)
        sessions = calendar.sessions(first, last, self._settings.closures)
        for batch in self._source.daily_bars(symbols, start, end, len(sessions)):
            tables.append(batch.bars)
            tally.add(batch)
            for symbol in batch.symbols:
                waiting.pop(symbol, None)
            if request.progress:
                request.progress(tally.done, len(request.symbols) * spans, tally.fetched)
            if request.stop and request.stop():
                tally.is_stopped = True
                break
        tally.left = dict.fromkeys(waiting, f"stopped before its bars from {first} on were asked for")
        if not tables:
            return INCOMING_SCHEMA.empty_table()
        return self._with_finality(pa.concat_tables(tables), first, last)

    @property
    def _newest_moment(self) -> datetime:
        """Return the newest moment that the plan may ask for."""
        margin = timedelta(minutes=1 if self._delay else 0)
        return (self._request.now - self._delay - margin).astimezone(calendar.NEW_YORK)

    def _with_finality(self, bars: pa.Table, first: date, last: date) -> pa.Table:
        """Mark final bars, and set aside those of no session that was asked for."""
        day = session_dates(bars)
        closures = self._settings.closures
        sessions = pa.array(calendar.sessions(first, last, closures), pa.date32())
        inside = pc.is_in(day, sessions)
        final = pc.less_equal(day, calendar.last_final_session(self._request.now, self._delay, closures))
        bars = bars.append_column("is_final", final)
        if pc.all(inside).as_py():
            return bars  # the daily case: no copy
        for row in bars.append_column("day", day).filter(pc.invert(inside)).to_pylist():
            is_outside = row["day"] is None or not first <= row["day"] <= last
            reason = "outside the complete sessions asked for" if is_outside else f"{row['day']} is no session"
            sent = json.dumps({name: value for name, value in row.items() if name not in _NOT_SENT}, default=str)
            bar = QuarantinedBar(row["symbol"], row["timestamp"], f"{reason}, {first} to {last}", sent)
            self._tally.quarantined.append(bar)
        return bars.filter(inside)

    def _store_years(self, bars: pa.Table, answered: Answered | None) -> None:
        """Write year by year: a partition that fails never loses the others."""
        tally = self._tally
        for year, bars_of_year in by_year(bars, session_dates(bars)):
            try:
                report = self._writer.bars.write(bars_of_year, "1Day", self._settings.feed, self._run_id, answered)
            except StorageRefused:
                raise
            except StorageError as problem:
                tally.failures.append(str(problem))
                for symbol in pc.unique(bars_of_year["symbol"]).to_pylist():
                    tally.failed.setdefault(symbol, f"{year} was not stored: {problem}")
                continue
            tally.quarantined += report.quarantined
            tally.altered += report.replaced
            tally.former |= report.former
            tally.failures += report.problems
            for symbol, changes in report.changes.items():
                tally.changes[symbol] += changes
            tally.written += [write.partition.key for write in report.partitions if write.written]
            tally.unchanged += sum(not write.written for write in report.partitions)

    def _fetch_actions(self) -> tuple[list[Action], Answer] | None:
        """Bring the corporate actions; a failure here never touches bars."""
        request, tally = self._request, self._tally
        symbols = [symbol for symbol in request.symbols if symbol not in tally.rejected]
        everything = request.mode == "overnight"
        first = request.first - PROCESSED_EARLIER
        last = calendar.new_york_date(request.now) + PROCESSED_LATER
        try:
            fetched = self._source.corporate_actions(symbols, first, last, with_announced=everything)
            actions, malformed = read_actions(fetched.lists, request.now)
            if everything:
                # what happened before a rename is filed under the old ticker
                renames = self._writer.actions.renames()
                while more := predecessors(symbols, renames | renames_in(actions)):
                    symbols = [*symbols, *more]
                    of_more = self._source.corporate_actions(more, first, last, with_announced=True)
                    fetched = FetchedActions.joined([fetched, of_more])
                    actions, malformed = read_actions(fetched.lists, request.now)
                self._writer.bars.renamed = later_tickers(renames | renames_in(actions))
        except (AlpacaError, StorageError) as problem:
            tally.failures.append(f"corporate actions: {problem}")
            return None
        announced, malformed_too = read_actions(fetched.announced, request.now, announced=True)
        tally.quarantined += [*malformed, *malformed_too]
        for reason in sorted(set(fetched.failed.values())):
            count = sum(why == reason for why in fetched.failed.values())
            tally.failures.append(f"corporate actions of {count} symbols were not fetched: {reason}")
        if unknown := fetched.without_announced - fetched.failed.keys():
            tally.note = f"what is announced of {len(unknown)} symbols is not known: {fetched.why_not_announced}"
        answered = frozenset(symbols) - fetched.failed.keys()
        announced_of = answered - fetched.without_announced if everything else frozenset()
        return [*announced, *actions], Answer(answered, first, last, fetched.ids, announced_of, request.now)

    def _is_ahead(self, fetched: tuple[list[Action], Answer] | None) -> bool:
        """Tell whether an action takes effect with the bars that this run stores."""
        request = self._request
        return fetched is not None and any(request.first <= action["ex_date"] <= request.last for action in fetched[0])

    def _store_actions(self, fetched: tuple[list[Action], Answer] | None) -> MergedActions | None:
        request, tally, store = self._request, self._tally, self._writer.actions
        if fetched is None:
            return None
        actions, answer = fetched
        if not actions and request.mode != "overnight":
            return None  # nothing can be due that the vendor does not name: S3 is not asked
        today = calendar.new_york_date(request.now)
        try:
            merged = store.merge(actions, today, everything=False, answer=answer, ahead_of=request.last)
        except (AlpacaError, StorageError) as problem:
            tally.failures.append(f"corporate actions: {problem}")
            return None
        tally.actions_added, tally.actions_changed = merged.added, merged.changed
        tally.actions_withdrawn = merged.withdrawn
        self._writer.bars.actions_version = store.version
        return merged

    def _settle_actions(self, merged: MergedActions | None) -> None:
        """Compute what depends on the bars just stored, and look for what does not fit them."""
        request, tally, store = self._request, self._tally, self._writer.actions
        today = calendar.new_york_date(request.now)
        try:
            store.be_at_least(self._writer.bars.actions_version)
            due = None if request.mode == "overnight" else merged.due if merged else frozenset()
            store.settle(due, {})
            if new_closes := self._first_closes(due):
                store.settle(due, new_closes)
            if request.mode == "overnight":
                suspects = store.note_suspects()
            else:
                suspects = store.note_new_suspects(self._writer.bars.recent, request.last - SUSPECT_WINDOW)
            changed = merged.ids if merged else frozenset()
            tally.new_suspects = sum(
                suspect.id in changed or suspect.session >= today - SUSPECT_WINDOW for suspect in suspects
            )
        except StorageError as problem:
            tally.failures.append(f"corporate actions: {problem}")

    def _first_closes(self, due: frozenset[str] | None) -> dict[str, float]:
        """Ask what spun-off shares outside the lake were worth, by the id of the spin-off."""
        closes: dict[str, float] = {}
        for spin_off in self._writer.actions.unpriced_spin_offs(due, self._request.last):
            symbol, day = spin_off.new_symbol, spin_off.ex_date
            try:
                close = self._source.first_close(symbol, day, self._newest_moment)
            except AlpacaError as problem:
                self._tally.failures.append(f"the first close of {symbol}, spun off on {day}: {problem}")
                continue
            if close is not None:
                closes[spin_off.id] = close
        return closes

    def _store_sessions(self) -> None:
        try:
            self._writer.write_sessions(calendar.known_sessions(self._request.now, self._settings.closures))
        except StorageError as problem:
            self._tally.failures.append(f"sessions: {problem}")

    def _short_history(self) -> tuple[ShortHistory, ...]:
        try:
            return self._request.short_history()
        except StorageError as problem:
            self._tally.failures.append(f"stored bars could not be counted: {problem}")
            return ()

    def _report(self) -> RefreshReport:
        request, tally = self._request, self._tally
        short_history = self._short_history()
        return RefreshReport(
            run_id=self._run_id,
            mode=request.mode,
            started_at=request.now,
            finished_at=request.now,
            feed=self._settings.feed,
            first_session=request.first,
            last_session=request.last,
            outcomes=tuple(map(tally.outcome, request.symbols)),
            quarantined=tuple(tally.quarantined),
            altered=tuple(tally.altered),
            former=tuple(former_name(symbol, begins) for symbol, begins in sorted(tally.former.items())),
            partitions_written=tuple(tally.written),
            partitions_unchanged=tally.unchanged,
            failures=tuple(tally.failures),
            left=tuple(tally.left),
            short_history=short_history,
            actions_added=tally.actions_added,
            actions_changed=tally.actions_changed,
            actions_withdrawn=tally.actions_withdrawn,
            new_suspects=tally.new_suspects,
            note=tally.note,
        )

    def _append(self, report: RefreshReport) -> RefreshReport:
        """Append the report to the audit trail; failing costs no bars."""
        before = self._writer.traffic
        try:
            self._writer.append_run(report.key, report.record())
        except StorageError as problem:
            report = replace(report, failures=(*report.failures, f"{report.key}: {problem}"))
        return _with_traffic(report, self._writer.traffic - before)


def _with_traffic(report: RefreshReport, more: Traffic) -> RefreshReport:
    return replace(
        report,
        s3_requests=report.s3_requests + more.requests,
        s3_bytes_sent=report.s3_bytes_sent + more.bytes_sent,
        s3_bytes_received=report.s3_bytes_received + more.bytes_received,
    )


def year_spans(first: date, last: date, symbols: int) -> Iterator[tuple[date, date]]:
    """Cut days into runs of whole years that fit in memory.

    11,000 symbols: a year each; 500 symbols: 19 years at once.
    """
    years = min(max(1, SPAN_ROWS // (SESSIONS_A_YEAR * symbols)), last.year - first.year + 1)
    for year in range(first.year, last.year + 1, years):
        yield max(first, date(year, 1, 1)), min(last, date(year + years - 1, 12, 31))
