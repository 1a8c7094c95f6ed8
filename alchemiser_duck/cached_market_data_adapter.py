"""CachedMarketDataAdapter: the read side. Bars, indicators and SQL from the lake, quotes from Alpaca."""

import copy
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import date, datetime
from datetime import time as time_of_day
from decimal import Decimal
from functools import wraps
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from alchemiser_duck import exchange_calendar as calendar
from alchemiser_duck.bars import Bar, Quote
from alchemiser_duck.data_freshness_validator import DataFreshnessValidator
from alchemiser_duck.errors import AlpacaUnavailable, BadParameter, EmptyLake, StorageError, UnknownSymbol
from alchemiser_duck.lake.io_stats import QueryStats
from alchemiser_duck.panel.explanation import Explanation
from alchemiser_duck.panel.listing import indicator_list
from alchemiser_duck.panel.reading import PanelReader
from alchemiser_duck.panel.request import PanelRequest, indicator_calls, require_relation, stem_of
from alchemiser_duck.query.arguments import as_calls, as_day, as_period, as_symbols, as_timeframe, one_symbol
from alchemiser_duck.query.introspection import CompleteSession, Introspection
from alchemiser_duck.query.literals import Scalar
from alchemiser_duck.query.session import DuckDBSession
from alchemiser_duck.query.statement import Lens, Parameters
from alchemiser_duck.query.stored_bars import SELECTED, StoredBars, bar_of
from alchemiser_duck.query.suspects import OnSuspect, watch
from alchemiser_duck.query.warm_bars import WarmBars
from alchemiser_duck.settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyRelation

    from alchemiser_duck.ingest.source import AlpacaSource

Rows = TypeVar("Rows")
Method = TypeVar("Method", bound=Callable[..., Any])

Symbols = Any
"""None means all; else "AAPL", "AAPL,IBM", any iterable of what prints as a ticker; see query.arguments.as_symbols"""
Day = Any
"""A session: a date, '2024-01-31', or what stands for one: see query.arguments.as_day"""
Indicators = Any
"""{"rsi": {"n": 14}, "sma": [{"n": 50}, {"n": 200}]}, or ["rsi", "sma(50)"]: see query.arguments.as_calls"""

_RELATIONS = {"all": "bars", "split": "bars_split", "raw": "bars_raw"}


def _measured(method: Method) -> Method:
    """Keep what a call took as the adapter's last_query_stats."""

    @wraps(method)
    def measured(self: "CachedMarketDataAdapter", *args: Any, **kwargs: Any) -> Any:
        before, began = self._session.traffic, time.perf_counter()
        try:
            return method(self, *args, **kwargs)
        finally:
            took = self._session.traffic - before
            self.last_query_stats = QueryStats(took.requests, took.bytes_received, time.perf_counter() - began)

    return measured  # type: ignore[return-value]


class SupportsGetBars(Protocol):
    """Another source of bars, asked where the lake has no answer."""

    def get_bars(self, symbol: str, period: str, timeframe: str) -> list[Bar]:
        """Give completed bars, oldest first."""
        ...


class CachedMarketDataAdapter:
    """Reads a lake. Safe to share between threads; the relations it hands out are snapshots of their own."""

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        fallback: SupportsGetBars | None = None,
        max_sessions_behind: int | None = None,
        on_missing: Literal["error", "fetch"] = "error",
        on_suspect: OnSuspect = "warn",
        local_copies: bool = True,
        clock: Callable[[], datetime] = calendar.utc_now,
    ) -> None:
        """Take everything from the environment unless settings are given; nothing is opened yet.

        Args:
            fallback: asked for bars when the lake is empty, unreachable, or does not know the symbol.
            max_sessions_behind: StaleData is raised instead of handing out bars or indicators of a symbol further
                behind than this (see DataFreshnessValidator); `sql` is not looked at. None means whatever is stored.
            on_missing: "fetch" brings a symbol that is not stored from Alpaca (see FetchRequestService) and reads
                again; the process then needs Alpaca's keys and a bucket that it may write to.
            on_suspect: adjusted prices on both sides of a corporate action or move that is likely to be wrong, and that
                nobody has settled, raise SuspectPrices ("error"), warn (SuspectPricesWarning), or go unnoticed.
            local_copies: False leaves every object on S3, and DuckDB reads the ranges that it needs over httpfs.
            clock: tells the time, UTC; decides which session is the last complete one.
        """
        if on_missing not in ("error", "fetch"):
            raise BadParameter(f"on_missing {on_missing!r} is neither error nor fetch")
        if on_suspect not in ("error", "warn", "ignore"):
            raise BadParameter(f"on_suspect {on_suspect!r} is neither error, warn nor ignore")
        self._settings = settings or Settings.from_environment()
        self._session = DuckDBSession(self._settings, is_local=local_copies)
        self._introspection = Introspection(self._session)
        self._stored = StoredBars(self._session, self._settings)
        self._panels = PanelReader(self._session, self._introspection)
        self._freshness = DataFreshnessValidator(self._settings, session=self._session)
        self._fallback = fallback
        self._max_sessions_behind = max_sessions_behind
        self._on_missing = on_missing
        self._on_suspect = on_suspect
        self._clock = clock
        self._as_of: date | None = None
        self._warm: WarmBars | None = None
        self._complete: CompleteSession | None = None
        self._source: AlpacaSource | None = None
        self.last_query_stats: QueryStats | None = None
        """what the call of this adapter that ended last took; None means there was none"""

    def as_of(self, day: Day) -> "CachedMarketDataAdapter":
        """Give the same adapter, looking from the close of that day: what came later does not exist.

        Raises:
            BadParameter: not a date.
        """
        past = copy.copy(self)
        past._as_of = as_day(day, "as_of")
        past._warm = None
        return past

    @_measured
    def get_bars(self, symbol: Any, period: str = "1Y", timeframe: str = "1Day") -> list[Bar]:
        """Give the completed bars of one symbol, oldest first.

        Args:
            symbol: a ticker, or what prints as one.
            period: <n>Y, <n>M, <n>W or <n>D, a calendar span that ends with the last complete session (or as_of); MAX.

        Returns:
            about 250 bars for "1Y"; empty where the symbol is stored but has no bar in the period.

        Raises:
            UnknownSymbol: no bar of the symbol is stored, and there is no fallback.
            BadPeriod, BadParameter, UnsupportedTimeframe: the argument is not one.
            EmptyLake, StorageError: the lake cannot be read, and there is no fallback.
        """
        timeframe, period, ticker = as_timeframe(timeframe), as_period(period), one_symbol(symbol)

        def span(last: date) -> tuple[date | None, date]:
            return calendar.span_start(period, last), last

        if self._warm:
            first, last = span(self._last_session())
            if self._warm.covers(ticker, first, last):
                return self._warm.bars(ticker, first)
        try:
            rows = self._ensure_current(
                (ticker,),
                lambda: self._stored.of_symbol(ticker, span(self._today()), lambda: span(self._last_session())),
            )
        except (EmptyLake, StorageError, UnknownSymbol):
            if self._fallback is None:
                raise
            return self._fallback.get_bars(symbol, period, timeframe)
        self._watch((ticker,), "bars", *span(self._today()))
        return [bar_of(row) for row in rows]

    @_measured
    def bars(
        self,
        symbols: Symbols = None,
        start: Day | None = None,
        end: Day | None = None,
        adjustment: Literal["all", "split", "raw"] = "all",
        timeframe: str = "1Day",
    ) -> "DuckDBPyRelation":
        """Give bars of some symbols (default: all), by symbol and timestamp: .df(), .pl(), .to_arrow_table().

        One row per symbol and session: symbol, date, timestamp, open, high, low, close, vwap, volume, trade_count,
        is_final. start and end are sessions, both included; no row where nothing matches.
        adjustment: "all" for splits, dividends and spin-offs; "split"; "raw": as traded.

        Raises:
            UnknownSymbol: one of the symbols is not stored.
            BadParameter, UnsupportedTimeframe: an argument is not one.
            EmptyLake, StorageError: the lake cannot be read.
        """
        as_timeframe(timeframe)
        if adjustment not in _RELATIONS:
            raise BadParameter(f"adjustment {adjustment!r} is none of {', '.join(_RELATIONS)}")
        (first, last), tickers = _range(start, end), as_symbols(symbols)
        relation, lens = _RELATIONS[adjustment], Lens(first, self._as_of)
        rows = self._ensure_current(tickers, lambda: self._stored.select("*", relation, tickers, lens, last))
        self._watch(tickers, relation, first, last)
        return rows

    @_measured
    def indicator(
        self,
        name: str,
        symbols: Symbols = None,
        start: Day | None = None,
        end: Day | None = None,
        source: str = "bars",
        **parameters: Scalar,
    ) -> "DuckDBPyRelation":
        """Give an indicator of some symbols (default: all): symbol, timestamp, value columns; by symbol and timestamp.

        start and end are sessions, both included. Only the bars that the range and the warm-up need are read; a symbol
        with fewer bars than that is computed from its whole history, so values do not depend on start.

        Raises:
            UnknownIndicator: there is no such indicator.
            BadParameter: a parameter is unknown, of the wrong type or out of range.
            UnknownSymbol: one of the symbols is not stored.
            EmptyLake, StorageError: the lake cannot be read.
        """
        request = self._request({name: parameters}, symbols, source, keep_names=True)
        first, last = _range(start, end)
        return self._read_panel(request, lambda: self._panels.range_rows(request, first, last), first, last)

    @_measured
    def latest(
        self, name: str, symbols: Symbols = None, source: str = "bars", **parameters: Scalar
    ) -> "DuckDBPyRelation":
        """Give the newest row of an indicator for each symbol, by symbol. Reads the warm-up alone.

        symbols None means every symbol with a bar in the month up to the newest bar there is. One that stopped trading
        before has a newest row too, where it is asked for by name.

        Raises:
            as `indicator` does.
        """
        request = self._request({name: parameters}, symbols, source, keep_names=True)
        return self._read_panel(request, lambda: self._panels.latest_rows(request))

    @_measured
    def indicators_table(
        self,
        indicators: Indicators,
        symbols: Symbols = None,
        start: Day | None = None,
        end: Day | None = None,
        source: str = "bars",
        *,
        latest: bool = False,
    ) -> "DuckDBPyRelation":
        """Give several indicators side by side, in one pass: one row per bar, by symbol and timestamp.

        Args:
            indicators: {"rsi": {"n": 14}, "bbands": {}, "sma": [{"n": 50}, {"n": 200}]}: name and parameters; a list
                asks for one indicator several times. Or calls: ["rsi", "sma(50)", "sma(200)"].
            latest: only the newest row of each symbol; the warm-up alone is read.

        Returns:
            symbol, timestamp, then a column per value: `rsi`; `bbands_upper`, … where an indicator has several;
            `sma_50`, `sma_200` where it is asked for several times. Null until warm, each by itself.

        Raises:
            as `indicator` does.
        """
        if latest and not (start is None and end is None):
            raise BadParameter("latest=True gives the newest rows: it takes neither start nor end")
        request = self._request(indicators, symbols, source)
        if latest:
            return self._read_panel(request, lambda: self._panels.latest_rows(request))
        first, last = _range(start, end)
        return self._read_panel(request, lambda: self._panels.range_rows(request, first, last), first, last)

    @_measured
    def latest_of(self, requests: Any, source: str = "bars") -> "DuckDBPyRelation":
        """Give the newest values that strategies ask for, and compute no others.

        Each symbol has indicators of its own: 290 symbols with 132 columns between them ask for 1,156 values.

        Args:
            requests: {"SPY": {"rsi": [10, 14], "current_price": []}}; a list of {"symbol": …, "indicators": …}; what
                SymbolExtractor found; or the path of strategies or of such a list as JSON. A window is the parameter n.

        Returns:
            symbol, timestamp, indicator, parameters (`n=14`), output (its column), value; one row per value, by symbol
            and indicator. Null until warm.

        Raises:
            as `indicator` does; MalformedFile: a strategy file cannot be read.
        """
        request = self._triples(requests, source)
        return self._read_panel(request, lambda: self._panels.latest_values(request))

    @_measured
    def explain(
        self,
        indicators: Indicators,
        symbols: Symbols = None,
        start: Day | None = None,
        end: Day | None = None,
        source: str = "bars",
        *,
        latest: bool = False,
    ) -> Explanation:
        """Tell what `indicators_table` would run for these arguments; print it.

        The SQL as it will run, then for each column its expression over the bars and how it is computed.

        Raises:
            as `indicator` does.
        """
        first, last = _range(start, end)
        return self._panels.explain(self._request(indicators, symbols, source), first, last, latest=latest)

    @_measured
    def sql(
        self, query: str, parameters: Parameters = None, tables: "Mapping[str, pa.Table] | None" = None
    ) -> "DuckDBPyRelation":
        """Give the rows of one SELECT-like statement over the views and macros of the layer.

        It runs on a connection that can read this lake and nothing else: it names neither files nor addresses.

        Args:
            parameters: what $1 or $name stand for.
            tables: Arrow tables that it may read by these names.

        Raises:
            NotReadOnly: anything but a single SELECT-like statement over the layer.
            QueryFailed: DuckDB cannot run it.
            EmptyLake, StorageError: the lake cannot be read.
        """
        return self._session.select(query, parameters, Lens(as_of=self._as_of, now=self._clock()), tables)

    @_measured
    def indicators(self) -> "DuckDBPyRelation":
        """List the indicators that there are, built-in and the user's own; S3 is not asked.

        See `alchemiser_duck.panel.listing.indicator_list` for the columns.

        Raises:
            SettingsError: a file of the user's own does not load.
        """
        return self._session.relation_of(indicator_list(self._introspection, self._settings.sql_dir))

    def symbols(self) -> "DuckDBPyRelation":
        """List what is stored: symbol, first_date, last_date, bars, provisional_bars; one row per symbol."""
        return self.sql("from symbols order by symbol")

    def universe(self, as_of: Day | None = None) -> list[str]:
        """List the symbols that traded on a day, sorted; those that have ended since are among them.

        Args:
            as_of: the day; None means that of this adapter, or the newest session stored.

        Raises:
            BadParameter: not a date.
            EmptyLake, StorageError: the lake cannot be read.
        """
        then = self if as_of is None else self.as_of(as_of)
        return [symbol for (symbol,) in then.sql("select symbol from universe order by symbol").fetchall()]

    @_measured
    def warm_cache(self, symbols: Symbols, period: str = "MAX") -> int:
        """Read the bars of these symbols once; return how many.

        Until the next session completes, `get_bars` of these symbols then answers from memory, without a request.
        It sees the lake as it is now: call this again to see a later refresh.

        Raises:
            UnknownSymbol: one of the symbols is not stored.
            BadPeriod: the period is not one.
            EmptyLake, StorageError: the lake cannot be read.
        """
        tickers, last = as_symbols(symbols), self._last_session()
        first = calendar.span_start(as_period(period), last)
        days = Lens(first, last)
        rows = self._ensure_current(tickers, lambda: self._stored.select(f"date, {SELECTED}", "bars", tickers, days))
        self._warm = WarmBars(rows, frozenset(tickers or ()), first, last)
        return len(rows)

    def get_latest_quote(self, symbol: Any) -> Quote:
        """Give the newest bid and ask, live from Alpaca; nothing is stored, nothing is made up from bars.

        Raises:
            SettingsError: there are no Alpaca keys.
            NoQuote: Alpaca has no two-sided quote of the symbol.
            BadParameter: the adapter looks from a past day, which no live quote belongs to.
            AlpacaError: Alpaca does not answer as it should.
        """
        if self._as_of:
            raise BadParameter(f"this adapter looks from {self._as_of}: a live quote would be from its future")
        if self._source is None:
            from alchemiser_duck.ingest.source import AlpacaSource

            self._source = AlpacaSource(self._settings, attempts=3)
        return self._source.latest_quote(one_symbol(symbol))

    def get_mid_price(self, symbol: Any) -> Decimal:
        """Halfway between the newest bid and ask, USD per share. Raises as `get_latest_quote` does."""
        return self.get_latest_quote(symbol).mid

    def _today(self) -> date:
        """The last day to be seen."""
        return self._as_of or calendar.new_york_date(self._clock())

    def _last_session(self) -> date:
        """The last session to be seen: of as_of or before it, or the last complete one."""
        if self._as_of:
            evening = datetime.combine(self._as_of, time_of_day(23, 59), calendar.NEW_YORK)
            try:
                return self._introspection.complete_session(evening).date
            except BadParameter:  # before the sessions that are known
                return self._as_of
        now = self._clock()
        known = self._complete
        if known is None or not known.begins <= now < known.ends:
            known = self._complete = self._introspection.complete_session(now)
        return known.date

    def _request(
        self, indicators: Indicators, symbols: Symbols, source: str, *, keep_names: bool = False
    ) -> PanelRequest:
        """Check what is asked for against the catalogue."""
        folder = self._settings.sql_dir
        requests = as_calls(indicators, folder)
        if not requests:
            raise BadParameter('no indicator is asked for; for example: {"rsi": {"n": 14}}')
        calls = indicator_calls(requests, folder)
        stems = (
            None if keep_names else stem_of(call, is_repeated=request.is_repeated)
            for call, request in zip(calls, requests, strict=True)
        )
        relation = require_relation(source, folder)
        return PanelRequest(calls, tuple(stems), relation, as_symbols(symbols), self._today(), self._as_of)

    def _triples(self, requests: Any, source: str) -> PanelRequest:
        """Collect each indicator with its parameters, and the symbols that it is asked for."""
        from alchemiser_duck.strategies.wanted import wanted_values
        from alchemiser_duck.symbol_extractor import strategy_requests

        by_name: dict[str, dict[str, tuple[Mapping[str, Any], set[str]]]] = {}
        for symbol, name, parameters in wanted_values(
            strategy_requests(requests) if isinstance(requests, str | PathLike) else requests
        ):
            sets = by_name.setdefault(name, {})
            sets.setdefault(repr(sorted(parameters.items())), (parameters, set()))[1].add(symbol)
        listed = {name: [parameters for parameters, _ in sets.values()] for name, sets in by_name.items()}
        symbols = [frozenset(symbols) for sets in by_name.values() for _, symbols in sets.values()]
        request = self._request(listed, frozenset().union(*symbols), source)
        return replace(request, symbols_of_calls=tuple(symbols))

    def _read_panel(
        self,
        request: PanelRequest,
        read: "Callable[[], DuckDBPyRelation]",
        first: date | None = None,
        last: date | None = None,
    ) -> "DuckDBPyRelation":
        def rows() -> "DuckDBPyRelation":
            result = read()
            self._stored.require_all(request.symbols, result, self._as_of)
            return result

        result = self._ensure_current(request.symbols, rows)
        self._watch(request.symbols, request.source, first, last)
        return result

    def _ensure_current(self, symbols: tuple[str, ...] | None, read: "Callable[[], Rows]") -> "Rows":
        """Read; fetch missing symbols first and refuse stale ones, as the adapter was told."""
        try:
            rows = read()
        except (UnknownSymbol, EmptyLake) as problem:
            missing = problem.symbols if isinstance(problem, UnknownSymbol) else symbols
            if self._on_missing != "fetch" or not missing or self._as_of:
                raise
            self._fetch(missing, problem)
            rows = read()
        if self._max_sessions_behind is not None:
            self._freshness.validate(
                symbols,
                max_sessions_behind=self._max_sessions_behind,
                raise_on_stale=True,
                now=self._clock(),
                as_of=self._as_of,
            )
        return rows

    def _watch(self, symbols: tuple[str, ...] | None, relation: str, first: date | None, last: date | None) -> None:
        """Warn or stop where a suspect lies inside of what was read of adjusted prices."""
        if relation != "bars_raw" and self._session.suspects:
            watch(self._session.suspects, self._on_suspect, symbols, first, last or self._today())

    def _fetch(self, missing: tuple[str, ...], problem: Exception) -> None:
        # the one way from the read side to the write side, taken only where it was asked for
        from alchemiser_duck.fetch_request_service import FetchRequestService

        report = FetchRequestService(self._settings).request(missing, "adapter", now=self._clock())
        failed = [f"{outcome.symbol}: {outcome.reason}" for outcome in report.outcomes if outcome.status == "failed"]
        if failed:
            raise AlpacaUnavailable(f"missing bars could not be fetched: {'; '.join(failed)}") from problem


def _range(start: Day | None, end: Day | None) -> tuple[date | None, date | None]:
    first = None if start is None else as_day(start, "start")
    last = None if end is None else as_day(end, "end")
    if first and last and first > last:
        raise BadParameter(f"start {first} is after end {last}")
    return first, last
