"""CachedMarketDataAdapter: the read side. Bars, indicators and SQL from the lake, quotes from Alpaca."""

import copy
import re
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import cache, wraps
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from dateutil.relativedelta import relativedelta

from alchemiser_duck import exchange_calendar as calendar
from alchemiser_duck.bars import Bar, Quote, require_timeframe
from alchemiser_duck.data_freshness_validator import DataFreshnessValidator
from alchemiser_duck.errors import (
    AlpacaUnavailable,
    BadParameter,
    BadPeriod,
    EmptyLake,
    StorageError,
    UnknownSymbol,
    did_you_mean,
)
from alchemiser_duck.lake.io_stats import QueryStats
from alchemiser_duck.lake.scan import Scan
from alchemiser_duck.panel.explanation import Explanation
from alchemiser_duck.panel.reading import (
    BAR_COLUMNS,
    PanelReader,
    PanelRequest,
    look_back_of,
    symbol_condition,
)
from alchemiser_duck.panel.warm_bars import SELECTED, WarmBars, bar_of
from alchemiser_duck.query.catalogue import IndicatorCall, SqlFile, indicator_file, indicator_files, relation_names
from alchemiser_duck.query.introspection import CompleteSession, Introspection
from alchemiser_duck.query.literals import Scalar, identifier, literal, where
from alchemiser_duck.query.session import DuckDBSession, Reading
from alchemiser_duck.query.statement import Lens, Parameters, Query
from alchemiser_duck.settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyRelation

    from alchemiser_duck.ingest.source import AlpacaSource

Rows = TypeVar("Rows")
Method = TypeVar("Method", bound=Callable[..., Any])

Day = date | str


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
        """Completed bars, oldest first."""
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
        local_copies: bool = True,
        clock: Callable[[], datetime] = calendar.utc_now,
    ) -> None:
        """Everything comes from the environment unless settings are given; nothing is opened yet.

        Args:
            fallback: asked for bars when the lake is empty, unreachable, or does not know the symbol.
            max_sessions_behind: StaleData is raised instead of handing out bars or indicators of a symbol further
                behind than this (see DataFreshnessValidator); `sql` is not looked at. None: whatever is stored.
            on_missing: "fetch" brings a symbol that is not stored from Alpaca (see FetchRequestService) and reads
                again; the process then needs Alpaca's keys and a bucket that it may write to.
            local_copies: objects are copied to the temporary folder before they are read, as far as that is worth it;
                False: DuckDB reads all of them straight over httpfs.
            clock: tells the time, UTC; decides which session is the last complete one.
        """
        self._settings = settings or Settings.from_environment()
        self._session = DuckDBSession(self._settings, is_local=local_copies)
        self._introspection = Introspection(self._session)
        self._panels = PanelReader(self._session, self._introspection)
        self._fallback = fallback
        self._freshness = DataFreshnessValidator(self._settings, session=self._session)
        self._max_sessions_behind = max_sessions_behind
        if on_missing not in ("error", "fetch"):
            raise BadParameter(f"on_missing {on_missing!r} is neither error nor fetch")
        self._on_missing = on_missing
        self._clock = clock
        self._as_of: date | None = None
        self._warm: WarmBars | None = None
        self._complete: CompleteSession | None = None
        self._source: AlpacaSource | None = None
        self.last_query_stats: QueryStats | None = None
        """what the call of this adapter that ended last took; None: there was none"""

    def as_of(self, day: Day) -> "CachedMarketDataAdapter":
        """The same adapter, looking from the close of that day: what came later does not exist.

        Raises:
            BadParameter: not a date.
        """
        past = copy.copy(self)
        past._as_of = _day(day, "as_of")
        past._warm = None
        return past

    @_measured
    def get_bars(self, symbol: str, period: str = "1Y", timeframe: str = "1Day") -> list[Bar]:
        """Completed bars of one symbol, oldest first.

        Args:
            period: <n>Y, <n>M, <n>W or <n>D, a calendar span that ends with the last complete session (or as_of); MAX.

        Returns:
            about 250 bars for "1Y"; empty where the symbol is stored but has no bar in the period.

        Raises:
            UnknownSymbol: no bar of the symbol is stored, and there is no fallback.
            BadPeriod, UnsupportedTimeframe: the argument is not one.
            EmptyLake, StorageError: the lake cannot be read, and there is no fallback.
        """
        require_timeframe(timeframe)
        condition = _symbol_condition([symbol])
        if self._warm:
            last = self._last_session()
            if self._warm.covers(symbol, _first_day(period, last), last):
                return self._warm.bars(symbol, _first_day(period, last))
        # a literal: binding a parameter makes DuckDB import pandas, 0.15 s
        text = f"select {SELECTED} from bars{where(condition)} order by timestamp"

        def read(reading: Reading) -> list[tuple[Any, ...]]:
            today = self._today()
            reading.listing.prefetch(Scan(_first_day(period, today), symbols=(symbol,)), today)
            last = self._last_session()
            first = _first_day(period, last)
            scan = Scan(first, last, (symbol,), BAR_COLUMNS)
            with reading.copies(scan) as copies:
                self._session.connection(names="bars")  # opens while objects arrive
                return self._session.run(Query(text, "bars", Lens(first, last), is_cacheable=True), copies).fetchall()

        def rows_of_symbol() -> list[tuple[Any, ...]]:
            rows = self._session.reading("bars", read)
            if not rows:
                self._require_stored([symbol])
            return rows

        try:
            rows = self._ensure_current([symbol], rows_of_symbol)
        except (EmptyLake, StorageError, UnknownSymbol):
            if self._fallback is None:
                raise
            return self._fallback.get_bars(symbol, period, timeframe)
        return [bar_of(row) for row in rows]

    @_measured
    def bars(
        self,
        symbols: Sequence[str] | None = None,
        start: Day | None = None,
        end: Day | None = None,
        adjustment: Literal["all", "split", "raw"] = "all",
        timeframe: str = "1Day",
    ) -> "DuckDBPyRelation":
        """Bars of some symbols (default: all), by symbol and timestamp: .df(), .pl(), .to_arrow_table(), .fetchall().

        One row per symbol and session: symbol, date, timestamp, open, high, low, close, vwap, volume, trade_count,
        is_final. start and end are sessions, both included; no row where nothing matches.
        adjustment: "all" for splits, dividends and spin-offs; "split"; "raw": as traded.

        Raises:
            UnknownSymbol: one of the symbols is not stored.
            BadParameter, UnsupportedTimeframe: an argument is not one.
            EmptyLake, StorageError: the lake cannot be read.
        """
        require_timeframe(timeframe)
        if adjustment not in ("all", "split", "raw"):
            raise BadParameter(f"adjustment {adjustment!r} is none of all, split, raw")
        relation = {"all": "bars", "split": "bars_split", "raw": "bars_raw"}[adjustment]
        first, last = _range(start, end)
        conditions = _symbol_condition(symbols) + ([f"date <= {literal(last)}"] if last else [])
        query = f"select * from {relation}{where(conditions)} order by symbol, timestamp"

        return self._bars(symbols, query, Lens(first, self._as_of))

    @_measured
    def indicator(
        self,
        name: str,
        symbols: Sequence[str] | None = None,
        start: Day | None = None,
        end: Day | None = None,
        source: str = "bars",
        **parameters: Scalar,
    ) -> "DuckDBPyRelation":
        """An indicator of some symbols (default: all): symbol, timestamp, value columns; by symbol and timestamp.

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
        return self._read_panel(request, lambda: self._panels.range_rows(request, first, last))

    @_measured
    def latest(
        self, name: str, symbols: Sequence[str] | None = None, source: str = "bars", **parameters: Scalar
    ) -> "DuckDBPyRelation":
        """The newest row of an indicator for each symbol: one row per symbol, by symbol. Reads the warm-up alone.

        symbols None: every symbol with a bar in the month up to the newest bar there is. One that stopped trading
        before has a newest row too, where it is asked for by name.

        Raises:
            as `indicator` does.
        """
        request = self._request({name: parameters}, symbols, source, keep_names=True)
        return self._read_panel(request, lambda: self._panels.latest_rows(request))

    @_measured
    def indicators_table(
        self,
        indicators: Mapping[str, Mapping[str, Scalar] | Sequence[Mapping[str, Scalar]]],
        symbols: Sequence[str] | None = None,
        start: Day | None = None,
        end: Day | None = None,
        source: str = "bars",
        *,
        latest: bool = False,
    ) -> "DuckDBPyRelation":
        """Several indicators side by side, read and computed in one pass: one row per bar, by symbol and timestamp.

        Args:
            indicators: {"rsi": {"n": 14}, "bbands": {}, "sma": [{"n": 50}, {"n": 200}]}: name and parameters; a list
                asks for one indicator several times.
            latest: only the newest row of each symbol; the warm-up alone is read.

        Returns:
            symbol, timestamp, then a column per value: `rsi`; `bbands_upper`, … where an indicator has several;
            `sma_50`, `sma_200` where it is asked for several times. Null until warm, each by itself.

        Raises:
            as `indicator` does.
        """
        if latest and (start or end):
            raise BadParameter("latest=True gives the newest rows: it takes neither start nor end")
        request = self._request(indicators, symbols, source)
        if latest:
            return self._read_panel(request, lambda: self._panels.latest_rows(request))
        first, last = _range(start, end)
        return self._read_panel(request, lambda: self._panels.range_rows(request, first, last))

    @_measured
    def explain(
        self,
        indicators: Mapping[str, Mapping[str, Scalar] | Sequence[Mapping[str, Scalar]]],
        symbols: Sequence[str] | None = None,
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
    def sql(self, query: str, parameters: Parameters = None) -> "DuckDBPyRelation":
        """The rows of one SELECT-like statement over the views and macros of the layer; $1 or $name take parameters.

        It runs on a connection that can read this lake and nothing else.

        Raises:
            NotReadOnly: anything but a single SELECT-like statement.
            QueryFailed: DuckDB cannot run it.
            EmptyLake, StorageError: the lake cannot be read.
        """
        return self._session.select(query, parameters, Lens(as_of=self._as_of, now=self._clock()))

    @_measured
    def beside(self, query: str, parameters: Parameters, tables: "Mapping[str, pa.Table]") -> "DuckDBPyRelation":
        """The rows of a SELECT over the layer and some Arrow tables, which it reads by these names."""
        return self._session.select(query, parameters, Lens(as_of=self._as_of), tables)

    @_measured
    def indicators(self) -> "DuckDBPyRelation":
        """The indicators that there are, built-in and the user's own: one row each, by name.

        Columns: name, parameters (with their defaults), columns (of the result), description, look_back (bars before a
        row that its value depends on, as SQL over the parameters; null: all), look_ahead (null, or the reason why its
        values may depend on later bars), file. S3 is not asked.

        Raises:
            SettingsError: a file of the user's own does not load.
        """
        import pyarrow as pa

        files = sorted(indicator_files(self._settings.sql_dir).values(), key=lambda file: file.name)
        rows = [
            {
                "name": file.name,
                "parameters": file.signature,
                "columns": list(self._introspection.columns_of(f"{identifier(file.name)}()")),
                "description": file.description,
                "look_back": look_back_of(file),
                "look_ahead": file.allows_look_ahead,
                "file": str(file.path),
            }
            for file in files
        ]
        texts = [(name, pa.string()) for name in ("description", "look_back", "look_ahead", "file")]
        heads = [("name", pa.string()), ("parameters", pa.string()), ("columns", pa.list_(pa.string()))]
        return self._session.relation_of(pa.Table.from_pylist(rows, schema=pa.schema(heads + texts)))

    def symbols(self) -> "DuckDBPyRelation":
        """What is stored: symbol, first_date, last_date, bars, provisional_bars; one row per symbol."""
        return self.sql("from symbols order by symbol")

    @_measured
    def warm_cache(self, symbols: Sequence[str], period: str = "MAX") -> int:
        """Read the bars of these symbols once; returns how many.

        Until the next session completes, `get_bars` of these symbols then answers from memory, without a request.
        It sees the lake as it is now: call this again to see a later refresh.

        Raises:
            UnknownSymbol: one of the symbols is not stored.
            BadPeriod: the period is not one.
            EmptyLake, StorageError: the lake cannot be read.
        """
        last = self._last_session()
        first = _first_day(period, last)
        query = f"select date, {SELECTED} from bars{where(_symbol_condition(symbols))} order by symbol, timestamp"

        result = self._bars(symbols, query, Lens(first, last))
        self._warm = WarmBars(result, frozenset(symbols), first, last)
        return len(result)

    def get_latest_quote(self, symbol: str) -> Quote:
        """The newest bid and ask, live from Alpaca; nothing is stored, nothing is made up from bars.

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
        return self._source.latest_quote(symbol)

    def get_mid_price(self, symbol: str) -> Decimal:
        """Halfway between the newest bid and ask, USD per share. Raises as `get_latest_quote` does."""
        return self.get_latest_quote(symbol).mid

    def _today(self) -> date:
        """The last day to be seen."""
        return self._as_of or calendar.new_york_date(self._clock())

    def _last_session(self) -> date:
        """The last session to be seen: as_of, or the last complete one."""
        if self._as_of:
            return self._as_of
        now = self._clock()
        known = self._complete
        if known is None or not known.begins <= now < known.ends:
            known = self._complete = self._introspection.complete_session(now)
        return known.date

    def _request(
        self,
        indicators: Mapping[str, Mapping[str, Scalar] | Sequence[Mapping[str, Scalar]]],
        symbols: Sequence[str] | None,
        source: str,
        *,
        keep_names: bool = False,
    ) -> PanelRequest:
        """What is asked for, checked against the catalogue."""
        calls: list[IndicatorCall] = []
        stems: list[str | None] = []
        for name, asked in indicators.items():
            for parameters in [asked] if isinstance(asked, Mapping) else asked:
                call = self._indicator_call(name, parameters, source)
                calls.append(call)
                stems.append(None if keep_names else call.file.name if isinstance(asked, Mapping) else _stem(call))
        if not calls:
            raise BadParameter('no indicator is asked for; for example: {"rsi": {"n": 14}}')
        _symbol_condition(symbols)
        names = None if symbols is None else tuple(symbols)
        return PanelRequest(tuple(calls), tuple(stems), source, names, self._today(), self._as_of)

    def _read_panel(self, request: PanelRequest, read: "Callable[[], DuckDBPyRelation]") -> "DuckDBPyRelation":
        def rows() -> "DuckDBPyRelation":
            result = read()
            self._require_all(request.symbols, result)
            return result

        return self._ensure_current(request.symbols, rows)

    def _bars(self, symbols: Sequence[str] | None, query: str, lens: Lens) -> "DuckDBPyRelation":
        """The rows of a query about bars, of every one of the symbols."""

        _symbol_condition(symbols)
        scan = Scan(lens.since, lens.as_of, None if symbols is None else tuple(symbols), BAR_COLUMNS)

        def read() -> "DuckDBPyRelation":
            result = self._session.read(Query(query, query, lens, is_cacheable=True), scan)
            self._require_all(symbols, result)
            return result

        return self._ensure_current(symbols, read)

    def _ensure_current(self, symbols: Sequence[str] | None, read: "Callable[[], Rows]") -> "Rows":
        """What `read` returns; missing symbols are fetched first and stale ones refused, as the adapter was told."""
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

    def _fetch(self, missing: Sequence[str], problem: Exception) -> None:
        # the one way from the read side to the write side, taken only where it was asked for
        from alchemiser_duck.fetch_request_service import FetchRequestService

        report = FetchRequestService(self._settings).request(missing, "adapter", now=self._clock())
        if failed := [f"{one.symbol}: {one.reason}" for one in report.outcomes if one.status == "failed"]:
            raise AlpacaUnavailable(f"missing bars could not be fetched: {'; '.join(failed)}") from problem

    def _indicator_call(self, name: str, parameters: Mapping[str, Scalar], source: str) -> IndicatorCall:
        """The indicator with its parameters as literals; names come from the catalogue."""
        file = indicator_file(name, self._settings.sql_dir)
        if unknown := sorted(set(parameters) - set(file.parameters)):
            raise BadParameter(f"{file.name} has no parameter {', '.join(unknown)}; it takes {file.signature}")
        for parameter in sorted(_bar_counts(file) & set(parameters)):
            value = parameters[parameter]
            if isinstance(value, int | float) and value < 0:
                raise BadParameter(f"{file.name}: {parameter} is a number of bars, got {value}")
        relations = relation_names(self._settings.sql_dir)
        if source not in relations:
            raise BadParameter(f"there is no relation {source!r}{did_you_mean(source, relations)}")
        try:
            return IndicatorCall(file, {parameter: literal(value) for parameter, value in parameters.items()})
        except ValueError as problem:
            raise BadParameter(f"{file.name}: {problem}; parameters are numbers and texts") from problem

    def _require_all(self, symbols: Sequence[str] | None, result: "DuckDBPyRelation") -> None:
        if symbols and (missing := sorted(set(symbols) - _symbols_of(result))):
            self._require_stored(missing)

    def _require_stored(self, symbols: Sequence[str]) -> None:
        """Raise UnknownSymbol for the first symbol that is not stored as far as this adapter sees."""
        lens = Lens(as_of=self._as_of)
        query = f"select distinct symbol from bars_raw{where(_symbol_condition(symbols))}"
        unknown = sorted(set(symbols) - _symbols_of(self._session.snapshot(query, lens=lens)))
        if unknown:
            stored = _symbols_of(self._session.snapshot("select distinct symbol from bars_raw", lens=lens))
            raise UnknownSymbol(
                f"no 1Day bars for {', '.join(map(repr, unknown))} in {self._settings.lake_url}/bars"
                f"{did_you_mean(unknown[0], stored)}; to fetch: alchemiser-duck refresh --symbols {','.join(unknown)}",
                tuple(unknown),
            )


def _stem(call: IndicatorCall) -> str:
    """The name of a call's columns where its indicator is asked for several times: sma_50."""
    parts = [re.sub(r"\W+", "_", value.partition("::")[0].strip("'")) for value in call.arguments.values()]
    return "_".join([call.file.name, *parts])


@cache
def _bar_counts(file: SqlFile) -> frozenset[str]:
    """The parameters of a user's indicator that may not be negative; built-in ones keep their own bounds."""
    if file.is_built_in:
        return frozenset()
    from alchemiser_duck.query.look_back import bar_counts  # sqlglot is only needed for users' own files

    return bar_counts(file)


_PERIOD = re.compile(r"([1-9]\d{0,3})([YMWD])")


def _first_day(period: str, last: date) -> date | None:
    """The first day of a calendar span that ends with `last`; None: no bound."""
    if period == "MAX":
        return None
    found = _PERIOD.fullmatch(period) if isinstance(period, str) else None
    if not found:
        raise BadPeriod(f"period {period!r} is not <n>Y, <n>M, <n>W, <n>D or MAX; for example: 1Y")
    number = int(found.group(1))
    unit = {"Y": "years", "M": "months", "W": "weeks", "D": "days"}[found.group(2)]
    try:
        first: date = last - relativedelta(**{unit: number}) + timedelta(days=1)  # type: ignore[arg-type]
    except (ValueError, OverflowError):
        return None  # before the first year there is
    return first


def _day(value: Day, name: str) -> date:
    if isinstance(value, datetime):
        raise BadParameter(f"{name} is a session, a date without a time: got {value!r}")
    if isinstance(value, date):
        return value
    try:
        return date.fromisoformat(value)
    except (TypeError, ValueError):
        raise BadParameter(f"{name} {value!r} is not a date; for example: 2024-01-31") from None


def _range(start: Day | None, end: Day | None) -> tuple[date | None, date | None]:
    first = None if start is None else _day(start, "start")
    last = None if end is None else _day(end, "end")
    if first and last and first > last:
        raise BadParameter(f"start {first} is after end {last}")
    return first, last


def _symbol_condition(symbols: Sequence[str] | None) -> list[str]:
    """The SQL conditions of a list of tickers as a person typed it."""
    if symbols is None:
        return []
    if isinstance(symbols, str):
        raise BadParameter(f"symbols is a list of tickers, not a text: type [{symbols!r}]")
    if unusable := [symbol for symbol in symbols if not isinstance(symbol, str) or "\0" in symbol]:
        raise BadParameter(f"symbols is a list of tickers as text, it holds {unusable[0]!r}")
    return symbol_condition(symbols)


def _symbols_of(relation: "DuckDBPyRelation") -> set[str]:
    return {symbol for (symbol,) in relation.select("symbol").distinct().fetchall()}
