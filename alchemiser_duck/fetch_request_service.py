"""FetchRequestService: fetches missing bars now, once per symbol and cooldown."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from threading import Lock
from typing import Literal

from alchemiser_duck import exchange_calendar as calendar
from alchemiser_duck.bars import alpaca_symbol
from alchemiser_duck.data_refresh_service import HISTORY_START, DataRefreshService
from alchemiser_duck.errors import AlchemiserDuckError, BadParameter, StorageError
from alchemiser_duck.ingest.run_reports import SymbolOutcome
from alchemiser_duck.lake.leases import FetchLeases, Lease
from alchemiser_duck.lake.object_store import S3Objects
from alchemiser_duck.market_data_store import MarketDataStore
from alchemiser_duck.settings import Settings

COOLDOWN = timedelta(minutes=15)
"""For this long after a fetch, the same symbol is not fetched again."""

WORKING = timedelta(minutes=5)
"""A fetch that takes longer than this may be taken over: its holder seems dead."""

WORKERS = 16
"""Leases asked for at once."""

Status = Literal["fetched", "present", "no_data", "deduplicated", "failed"]


@dataclass(frozen=True, slots=True)
class FetchOutcome:
    """The outcome of a request for one symbol."""

    symbol: str
    status: Status
    """fetched; present: nothing was missing; no_data: the vendor has no bar of what is missing; deduplicated: somebody
    fetches it, or just has; failed: reason says why"""
    bars: int = 0
    """bars added"""
    remaining_seconds: float | None = None
    """deduplicated: after how long it would be fetched again"""
    reason: str | None = None


@dataclass(frozen=True)
class FetchReport:
    """The outcome of a request, symbol by symbol, in its order."""

    outcomes: tuple[FetchOutcome, ...]

    def symbols_with(self, status: Status) -> list[str]:
        """List the symbols that ended with this status."""
        return [outcome.symbol for outcome in self.outcomes if outcome.status == status]

    @property
    def status(self) -> Literal["ok", "partial", "failed"]:
        """Return ok where nothing failed, failed where everything did, else partial."""
        failed = len(self.symbols_with("failed"))
        if not failed:
            return "ok"
        return "failed" if failed == len(self.outcomes) else "partial"


@dataclass
class _Request:
    """A call that waits for its answer."""

    symbols: list[str]
    requested_by: str
    now: datetime
    outcomes: dict[str, FetchOutcome] = field(default_factory=dict)


class FetchRequestService:
    """Fetches on demand. Safe to share between threads.

    Requests that wait for each other become one refresh.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        store: MarketDataStore | None = None,
        refresh: DataRefreshService | None = None,
        cooldown: timedelta = COOLDOWN,
        working: timedelta = WORKING,
    ) -> None:
        """Settings come from the environment by default.

        Args:
            cooldown: for how long after a fetch the same symbol is not fetched again.
            working: for how long a holder that says nothing is believed to be at work.
        """
        self._settings = settings or Settings.from_environment()
        self._store = store or MarketDataStore(self._settings)
        self._refresh = refresh or DataRefreshService(self._settings, store=self._store)
        self._leases = FetchLeases(S3Objects(self._settings))
        self._cooldown = cooldown
        self._working = working
        self._delay = timedelta(minutes=self._settings.sip_delay_minutes)
        self._door, self._refreshing = Lock(), Lock()
        self._waiting: list[_Request] = []

    def request(self, symbols: Sequence[str], requested_by: str, *, now: datetime | None = None) -> FetchReport:
        """Fetch the missing bars of symbols, up to the last complete session.

        A new symbol comes with all its history.
        Never raises for what S3 or Alpaca do: that is in the outcomes, and the symbol can be asked for again at once.

        Raises:
            BadParameter: no symbol, or one that is not a ticker, or requested_by is empty.
        """
        request = _Request(_tickers(symbols), requested_by, now or calendar.utc_now())
        if not requested_by.strip():
            raise BadParameter("requested_by is empty: name the strategy or person that asks")
        with self._door:
            self._waiting.append(request)
        with self._refreshing:
            if not request.outcomes:
                with self._door:
                    batch, self._waiting = self._waiting, []
                self._serve(batch)
        return FetchReport(tuple(request.outcomes[symbol] for symbol in request.symbols))

    def _serve(self, batch: list[_Request]) -> None:
        """Answer requests with one refresh, asked for by each symbol's first."""
        for request in batch:  # should this break off, nobody waits for an answer that never comes
            request.outcomes = _all_failed(request.symbols, "the refresh that should have fetched it broke off")
        now = max(request.now for request in batch)
        first = {symbol: request for request in reversed(batch) for symbol in request.symbols}

        def take(symbol: str) -> Lease | FetchOutcome:
            return self._take(symbol, first[symbol].requested_by, now)

        with ThreadPoolExecutor(min(WORKERS, len(first))) as pool:
            taken = dict(zip(first, pool.map(take, first), strict=True))
        leases = {symbol: lease for symbol, lease in taken.items() if isinstance(lease, Lease)}
        outcomes = {symbol: outcome for symbol, outcome in taken.items() if isinstance(outcome, FetchOutcome)}
        outcomes |= self._fetch(list(leases), now)
        with ThreadPoolExecutor(WORKERS) as pool:
            list(pool.map(lambda symbol: self._close(leases[symbol], outcomes[symbol], now), leases))
        for request in batch:
            for symbol in request.symbols:
                outcome = outcomes[symbol]
                request.outcomes[symbol] = outcome if first[symbol] is request else self._shared(outcome)

    def _take(self, symbol: str, requested_by: str, now: datetime) -> Lease | FetchOutcome:
        try:
            lease = self._leases.take(symbol, requested_by, now, self._working)
        except StorageError as problem:
            return FetchOutcome(symbol, "failed", reason=str(problem))
        if isinstance(lease, Lease):
            return lease
        return FetchOutcome(symbol, "deduplicated", remaining_seconds=lease.total_seconds())

    def _shared(self, outcome: FetchOutcome) -> FetchOutcome:
        """Return the outcome for a request whose symbol another has fetched."""
        if outcome.status != "fetched":
            return outcome
        return FetchOutcome(outcome.symbol, "deduplicated", remaining_seconds=self._cooldown.total_seconds())

    def _close(self, lease: Lease, outcome: FetchOutcome, now: datetime) -> None:
        try:
            if outcome.status == "failed":
                self._leases.release(lease, now)
            else:
                self._leases.keep(lease, now, self._cooldown)
        except StorageError:
            return  # it expires by itself

    def _fetch(self, symbols: list[str], now: datetime) -> dict[str, FetchOutcome]:
        """Fetch new symbols in one refresh, those behind in another."""
        last = calendar.last_complete_session(now, self._delay, self._settings.closures)
        try:
            stored = self._store.metadata_of(symbols)
        except StorageError as problem:
            return _all_failed(symbols, problem)
        outcomes = {s: FetchOutcome(s, "present") for s in symbols if s in stored and stored[s].last_date >= last}
        behind = [symbol for symbol in symbols if symbol in stored and symbol not in outcomes]
        if new := [symbol for symbol in symbols if symbol not in stored]:
            outcomes |= self._refreshed(new, HISTORY_START, last, now)
        if behind:
            first = min(stored[symbol].last_date for symbol in behind) + timedelta(days=1)
            outcomes |= self._refreshed(behind, first, last, now)
        return outcomes

    def _refreshed(self, symbols: list[str], first: date, last: date, now: datetime) -> dict[str, FetchOutcome]:
        try:
            report = self._refresh.fetch(symbols, first, last, "request", now=now)
        except AlchemiserDuckError as problem:
            return _all_failed(symbols, problem)
        return {outcome.symbol: outcome for outcome in map(_of_refresh, report.outcomes)}


def _of_refresh(outcome: SymbolOutcome) -> FetchOutcome:
    if outcome.status == "failed":
        return FetchOutcome(outcome.symbol, "failed", reason=outcome.reason)
    return FetchOutcome(outcome.symbol, "no_data" if outcome.status == "no_data" else "fetched", outcome.changes.added)


def _all_failed(symbols: list[str], problem: Exception | str) -> dict[str, FetchOutcome]:
    return {symbol: FetchOutcome(symbol, "failed", reason=str(problem)) for symbol in symbols}


def _tickers(symbols: Sequence[str]) -> list[str]:
    if isinstance(symbols, str) or not symbols:
        raise BadParameter(f"symbols is a list of tickers, got {symbols!r}")
    return list(dict.fromkeys(alpaca_symbol(symbol) for symbol in symbols))
