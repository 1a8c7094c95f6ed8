"""CachedMarketDataAdapter: the read side. Bars, indicators and SQL from the lake, quotes from Alpaca."""

import copy
import math
import re
import time
from bisect import bisect_left
from collections import Counter
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
    QueryFailed,
    StorageError,
    UnknownSymbol,
    did_you_mean,
)
from alchemiser_duck.lake.cached_object import VALUES, Wanted
from alchemiser_duck.lake.io_stats import QueryStats
from alchemiser_duck.lake.mirror import NARROW, WIDE, LakeRead
from alchemiser_duck.panel.execution import InOrder
from alchemiser_duck.query.catalogue import (
    AT_THE_END,
    BARS_BEFORE,
    KEYS,
    IndicatorCall,
    PanelEntry,
    SqlFile,
    code_words,
    files_named_in,
    indicator_file,
    indicator_files,
)
from alchemiser_duck.query.literals import Scalar, identifier, literal, literal_list, where
from alchemiser_duck.query.session import CompleteSession, DuckDBSession, Lens, Parameters, moment
from alchemiser_duck.settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyRelation

    from alchemiser_duck.ingest.source import AlpacaSource

Rows = TypeVar("Rows")
Method = TypeVar("Method", bound=Callable[..., Any])

FEW_SYMBOLS = 20

RECENT = timedelta(days=31)
"""Without a list of symbols, `latest` gives those that traded within this of the newest bar."""

BAR_COLUMNS = VALUES | {"is_final"}

DAILY_RELATIONS = ("bars", "bars_split", "bars_raw")
"""Relations with one row per session: a look-back in bars tells how many days to read."""

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
        clock: Callable[[], datetime] = calendar.utc_now,
    ) -> None:
        """Everything comes from the environment unless settings are given; nothing is opened yet.

        Args:
            fallback: asked for bars when the lake is empty, unreachable, or does not know the symbol.
            max_sessions_behind: StaleData is raised instead of handing out bars or indicators of a symbol further
                behind than this (see DataFreshnessValidator); `sql` is not looked at. None: whatever is stored.
            on_missing: "fetch" brings a symbol that is not stored from Alpaca (see FetchRequestService) and reads
                again; the process then needs Alpaca's keys and a bucket that it may write to.
            clock: tells the time, UTC; decides which session is the last complete one.
        """
        self._settings = settings or Settings.from_environment()
        self._session = DuckDBSession(self._settings)
        self._fallback = fallback
        self._freshness = DataFreshnessValidator(self._settings, session=self._session)
        self._max_sessions_behind = max_sessions_behind
        if on_missing not in ("error", "fetch"):
            raise BadParameter(f"on_missing {on_missing!r} is neither error nor fetch")
        self._on_missing = on_missing
        self._clock = clock
        self._as_of: date | None = None
        self._warm: _WarmBars | None = None
        self._complete: CompleteSession | None = None
        self._source: AlpacaSource | None = None
        self._as_they_stand: set[SqlFile] = set()
        """the user's own indicators that failed when a panel took them apart: their author's text decides"""
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
        conditions = _symbol_condition([symbol])
        ahead = None
        if not self._warm:
            ahead = self._session.read_ahead("bars")
            ahead.expect(_first_day(period, self._today()), self._today(), [symbol])
        last = self._last_session()
        first = _first_day(period, last)
        if self._warm and self._warm.covers(symbol, first, last):
            return self._warm.bars(symbol, first)
        # a literal: binding a parameter makes DuckDB import pandas, 0.15 s
        query = f"select {_BAR_COLUMNS} from bars{where(conditions)} order by timestamp"

        def read() -> list[tuple[Any, ...]]:
            rows = self._session.snapshot(
                query,
                lens=Lens(first, last),
                limit=NARROW,
                wanted=Wanted(BAR_COLUMNS, (symbol,)),
                read=ahead,
                remember=True,
            ).fetchall()
            if not rows:
                self._require_stored([symbol])
            return rows

        try:
            rows = self._as_promised([symbol], read)
        except (EmptyLake, StorageError, UnknownSymbol):
            if self._fallback is None:
                raise
            return self._fallback.get_bars(symbol, period, timeframe)
        return [_bar(row) for row in rows]

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
        wanted = self._indicator_call(name, parameters, source)
        ahead = self._session.read_ahead(_names([wanted], source))

        def query(_: Sequence[str] | None) -> str:
            return f"from {wanted.sql(source)}"

        return self._between([wanted], lambda: [self._entry(wanted, source)], query, symbols, start, end, source, ahead)

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
        wanted = self._indicator_call(name, parameters, source)
        ahead = self._session.read_ahead(_names([wanted], source))

        return self._newest(lambda: [self._entry(wanted, source)], [wanted], symbols, source, ahead)

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
        wanted = [
            (self._indicator_call(name, parameters, source), not isinstance(asked, Mapping))
            for name, asked in indicators.items()
            for parameters in ([asked] if isinstance(asked, Mapping) else asked)
        ]
        calls = [one for one, _ in wanted]
        if not wanted:
            raise BadParameter('no indicator is asked for; for example: {"rsi": {"n": 14}}')
        if latest and (start or end):
            raise BadParameter("latest=True gives the newest rows: it takes neither start nor end")
        ahead = self._session.read_ahead(_names(calls, source))

        def entries() -> list[PanelEntry]:
            labels = [_labels(one, self._values_of(one, source), several=several) for one, several in wanted]
            counts = Counter(label for one in labels for label in one.values())
            if twice := [label for label, count in counts.items() if count > 1]:
                raise BadParameter(f"two of the indicators would both be called {twice[0]}: ask for each once")
            return [self._panel_entry(one, columns, source) for one, columns in zip(calls, labels, strict=True)]

        if latest:
            return self._newest(entries, calls, symbols, source, ahead)

        def query(some: Sequence[str] | None) -> str:
            from alchemiser_duck.panel.plan import panel  # sqlglot takes 0.1 s to import

            return panel(entries(), source, _symbol_condition(some))

        return self._between(calls, entries, query, symbols, start, end, source, ahead)

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
        return self._session.snapshot(query, parameters, Lens(as_of=self._as_of), tables)

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
                "columns": list(self._session.columns_of(f"{identifier(file.name)}()")),
                "description": file.description,
                "look_back": file.look_back or _inferred_look_back(file),
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
        query = f"select date, {_BAR_COLUMNS} from bars{where(_symbol_condition(symbols))} order by symbol, timestamp"

        result = self._bars(symbols, query, Lens(first, last))
        self._warm = _WarmBars(result, frozenset(symbols), first, last)
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
            known = self._complete = self._session.complete_session(now)
        return known.date

    def _between(
        self,
        wanted: Sequence[IndicatorCall],
        entries: Callable[[], Sequence[PanelEntry]],
        query: Callable[[Sequence[str] | None], str],
        symbols: Sequence[str] | None,
        start: Day | None,
        end: Day | None,
        source: str,
        ahead: LakeRead,
    ) -> "DuckDBPyRelation":
        """The rows of a range of sessions.

        Args:
            entries, query: what is wanted, and the SELECT of it for some symbols with plain windows.
        """
        from alchemiser_duck.panel.plan import panel_in_order

        first, last = _range(start, end)
        times = [f"timestamp >= {literal(_midnight(first))}"] if first else []
        times += [f"timestamp < {literal(_midnight(last + timedelta(days=1)))}"] if last else []

        def select(some: Sequence[str] | None, *, counted: bool) -> str | InOrder:
            in_order = panel_in_order(entries(), source, _symbol_condition(some)) if _are_many(some) else None
            if in_order:

                def in_range(most_bars: int, whole: Mapping[str, bool]) -> str:
                    return f"from ({in_order.query(most_bars, whole, counted=counted)}){where(times)}"

                beside = in_order.beside and f"from ({in_order.beside}){where(times)}"
                names = [*KEYS, *in_order.labels, *([BARS_BEFORE] if counted else [])]
                return InOrder(in_order.rows, in_order.columns, in_range, beside, names)
            # counting bars costs a sort of all columns: only where something asks for the count
            number = "row_number() over (partition by symbol order by timestamp) - 1" if counted else "null::bigint"
            numbered = f"select *, {number} as {BARS_BEFORE} from ({query(some)}){where(_symbol_condition(some))}"
            return f"select * from ({numbered}){where(times)} order by symbol, timestamp"

        since = self._since(first, wanted, source) if first else None
        ahead.expect(since, self._today(), symbols)
        return self._compute(select, wanted, symbols, since, source, ahead)

    def _newest(
        self,
        entries: Callable[[], Sequence[PanelEntry]],
        wanted: Sequence[IndicatorCall],
        symbols: Sequence[str] | None,
        source: str,
        ahead: LakeRead,
    ) -> "DuckDBPyRelation":
        """The newest row of each symbol."""
        from alchemiser_duck.panel.plan import newest_panel

        recent = f"timestamp >= newest_seen - interval {RECENT.days} day"

        def select(some: Sequence[str] | None, *, counted: bool) -> str:  # noqa: ARG001 (it counts in any case)
            newest = newest_panel(entries(), source, _symbol_condition(some), some)
            if symbols is not None:
                return f"from ({newest}) order by symbol"
            seen = f"select *, max(timestamp) over () as newest_seen from ({newest})"
            return f"select * exclude (newest_seen) from ({seen}) where {recent} order by symbol"

        day = self._today()
        ahead.expect(self._since(day - RECENT, wanted, source), day, symbols)
        self._session.connection(names=_names(wanted, source))  # loads while S3 answers
        stored = ahead.newest_day() or day
        since = self._since(min(day, stored) - RECENT, wanted, source)
        if since and stored < day:  # bars end some time in that year
            since = date(since.year, 1, 1)
        return self._compute(select, wanted, symbols, since, source, ahead)

    def _entry(self, wanted: IndicatorCall, source: str) -> PanelEntry:
        """An indicator by itself, its columns under their own names."""
        columns = self._values_of(wanted, source)
        return self._panel_entry(wanted, dict(zip(columns, columns, strict=True)), source)

    def _panel_entry(self, wanted: IndicatorCall, columns: Mapping[str, str], source: str) -> PanelEntry:
        if wanted.file.is_built_in or wanted.file in self._as_they_stand:
            return PanelEntry(wanted, columns)
        types = self._session.columns_of(wanted.sql(source))
        return PanelEntry(wanted, columns, types, frozenset(map(str.lower, self._session.columns_of(source))))

    def _values_of(self, wanted: IndicatorCall, source: str) -> list[str]:
        """The value columns of an indicator, whatever its parameters are."""
        from alchemiser_duck.panel.fusion import columns  # sqlglot takes 0.1 s to import

        given = columns(wanted.file) or list(self._session.columns_of(IndicatorCall(wanted.file, {}).sql(source)))
        return given[len(KEYS) :]

    def _compute(
        self,
        select: Callable[..., str | InOrder],
        wanted: Sequence[IndicatorCall],
        symbols: Sequence[str] | None,
        since: date | None,
        source: str,
        ahead: LakeRead,
    ) -> "DuckDBPyRelation":
        """The selected rows, computed from the bars since a day.

        A row is exact when as many bars as the look-back precede it in what was read. Where a symbol has fewer (a new
        listing, a long halt, an old delisting), that symbol is computed again from its whole history.

        Args:
            select: the rows of some symbols, by symbol and timestamp; counted: its `bars_before` is looked at.
        """
        columns = _columns_read(wanted, source)
        ahead.fetch(since, self._as_of, _limit(symbols), _wanted(columns, symbols))

        def rows(some: Sequence[str] | None, start: date | None, read: LakeRead | None = None) -> "DuckDBPyRelation":
            def snapshot() -> "DuckDBPyRelation":
                return self._session.snapshot(
                    select(some, counted=start is not None),
                    lens=Lens(start, self._as_of),
                    names=_names(wanted, source),
                    limit=_limit(some),
                    wanted=_wanted(columns, some),
                    read=read,
                    remember=True,
                )

            return self._computed(snapshot, wanted)

        def read() -> "DuckDBPyRelation":
            result, unsure = rows(symbols, since, ahead), symbols
            if since is not None and symbols is None and not len(result):
                result = rows(None, None)  # the newest bars are older than that
            elif since is not None:
                look_back = self._look_back(wanted, source)
                fewest = dict(result.aggregate(f"symbol, min({BARS_BEFORE})", "symbol").fetchall())
                asked = fewest if symbols is None else symbols
                unsure = sorted({one for one in asked if one not in fewest or fewest[one] < look_back})
                if unsure:
                    exact = result.filter(f"symbol not in ({literal_list(unsure)})")
                    result = self._session.stack(exact, rows(unsure, None))
            self._require_all(unsure, result)
            return result.select(f"* exclude ({BARS_BEFORE})") if BARS_BEFORE in result.columns else result

        return self._as_promised(symbols, read)

    def _computed(
        self, snapshot: Callable[[], "DuckDBPyRelation"], wanted: Sequence[IndicatorCall]
    ) -> "DuckDBPyRelation":
        """What `snapshot` gives; where the user's own indicators fail taken apart, their author's text decides."""
        try:
            return snapshot()
        except QueryFailed as problem:
            if own := {one.file for one in wanted if not one.file.is_built_in} - self._as_they_stand:
                self._as_they_stand |= own
                try:
                    return self._computed(snapshot, wanted)
                except Exception:  # so it does not matter how they are run
                    self._as_they_stand -= own
                    raise
            if any(f"{one.file.name}: " in str(problem) for one in wanted):  # the bounds are in the .sql files
                raise BadParameter(str(problem).removeprefix("Invalid Input Error: ")) from problem
            raise

    def _bars(self, symbols: Sequence[str] | None, query: str, lens: Lens) -> "DuckDBPyRelation":
        """The rows of a query about bars, of every one of the symbols."""

        def read() -> "DuckDBPyRelation":
            result = self._session.snapshot(
                query, lens=lens, limit=_limit(symbols), wanted=_wanted(BAR_COLUMNS, symbols), remember=True
            )
            self._require_all(symbols, result)
            return result

        return self._as_promised(symbols, read)

    def _as_promised(self, symbols: Sequence[str] | None, read: "Callable[[], Rows]") -> "Rows":
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
        relations = self._session.relation_names()
        if source not in relations:
            raise BadParameter(f"there is no relation {source!r}{did_you_mean(source, relations)}")
        try:
            return IndicatorCall(file, {parameter: literal(value) for parameter, value in parameters.items()})
        except ValueError as problem:
            raise BadParameter(f"{file.name}: {problem}; parameters are numbers and texts") from problem

    def _since(self, day: date, wanted: Sequence[IndicatorCall], source: str) -> date | None:
        """The first day to read for rows from that day on; None: all of them, for nobody tells the look-back."""
        look_back = self._look_back(wanted, source)
        return None if look_back is None else _days_before(day, look_back)

    def _look_back(self, wanted: Sequence[IndicatorCall], source: str) -> int | None:
        """How many bars before a row its values depend on; None: nobody says, so all of them."""
        if source not in DAILY_RELATIONS:
            return None
        expressions = []
        for one in wanted:
            expression = one.file.look_back or _inferred_look_back(one.file)
            if expression is None:
                return None
            expressions.append((expression, one.file.parameters | one.arguments))
        try:
            return max(map(int, self._session.evaluate(expressions)))
        except (QueryFailed, TypeError, ValueError, OverflowError):
            return None  # parameters out of range: the macro itself says so

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


def _labels(wanted: IndicatorCall, columns: Sequence[str], *, several: bool) -> dict[str, str]:
    """The name in a panel of each of an indicator's columns."""
    parts = [re.sub(r"\W+", "_", value.partition("::")[0].strip("'")) for value in wanted.arguments.values()]
    stem = "_".join([wanted.file.name, *(parts if several else [])])
    return {column: stem if column == wanted.file.name else f"{stem}_{column}" for column in columns}


def _names(wanted: Sequence[IndicatorCall], source: str) -> str:
    """The names of the layer that a query of some indicators is made of."""
    return " ".join([source, AT_THE_END, *(one.file.name for one in wanted)])


def _columns_read(wanted: Sequence[IndicatorCall], source: str) -> frozenset[str] | None:
    """The columns of stored bars that indicators may read; None: any."""
    if source not in DAILY_RELATIONS or not all(one.file.is_built_in for one in wanted):
        return None
    files = files_named_in(_names(wanted, source))
    return BAR_COLUMNS & code_words(file for file in files if file.is_indicator or file.is_function)


def _wanted(columns: frozenset[str] | None, symbols: Sequence[str] | None) -> Wanted | None:
    if columns is None:
        return None
    return Wanted(columns, None if symbols is None or _are_many(symbols) else tuple(symbols))


def _are_many(symbols: Sequence[str] | None) -> bool:
    return symbols is None or len(symbols) > FEW_SYMBOLS


def _limit(symbols: Sequence[str] | None) -> int:
    """How many bytes of bars to fetch whole for some symbols."""
    return WIDE if _are_many(symbols) else NARROW


@cache
def _bar_counts(file: SqlFile) -> frozenset[str]:
    """The parameters of a user's indicator that may not be negative; built-in ones keep their own bounds."""
    if file.is_built_in:
        return frozenset()
    from alchemiser_duck.query.linter import bar_counts  # sqlglot is only needed for users' own files

    return bar_counts(file)


@cache
def _inferred_look_back(file: SqlFile) -> str | None:
    from alchemiser_duck.query.linter import infer_look_back  # sqlglot is only needed for users' own files

    return infer_look_back(file)


class _WarmBars:
    """Bars in memory: what one read saw, good until the next session completes."""

    def __init__(self, snapshot: "DuckDBPyRelation", symbols: frozenset[str], first: date | None, last: date) -> None:
        """snapshot: date, then the columns of a bar, by symbol and timestamp."""
        self._symbols = symbols
        self._first = first
        self._last = last
        self._rows = snapshot.to_arrow_table()
        self._dates = self._rows["date"].combine_chunks()
        self._places: dict[str, tuple[int, int]] = {}
        start = 0
        for symbol, count in snapshot.aggregate("symbol, count(*)", "symbol").order("symbol").fetchall():
            self._places[symbol] = (start, start + count)
            start += count
        for (microseconds,) in snapshot.select("timestamp").distinct().fetchall():
            moment(microseconds)  # sessions, which all symbols share

    def covers(self, symbol: str, first: date | None, last: date) -> bool:
        reaches_back = self._first is None or (first is not None and first >= self._first)
        return symbol in self._symbols and last == self._last and reaches_back

    def bars(self, symbol: str, first: date | None) -> list[Bar]:
        start, end = self._places.get(symbol, (0, 0))
        if first:
            start = bisect_left(range(end), first, start, key=lambda row: self._dates[row].as_py())
        columns = self._rows.slice(start, end - start).to_pydict()
        del columns["date"]
        return [_bar(row) for row in zip(*columns.values(), strict=True)]


_BAR_COLUMNS = "symbol, epoch_us(timestamp) as timestamp, open, high, low, close, volume, vwap, trade_count"
_PERIOD = re.compile(r"([1-9]\d{0,3})([YMWD])")


def _bar(row: tuple[Any, ...]) -> Bar:
    symbol, timestamp, open_, high, low, close, volume, vwap, trade_count = row
    return Bar(
        symbol=symbol,
        timestamp=moment(timestamp),
        open=Decimal(repr(open_)),
        high=Decimal(repr(high)),
        low=Decimal(repr(low)),
        close=Decimal(repr(close)),
        volume=volume,
        vwap=None if vwap is None else Decimal(repr(vwap)),
        trade_count=trade_count,
    )


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


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=calendar.NEW_YORK)


def _days_before(day: date, sessions: int) -> date | None:
    """A day that surely has so many sessions before `day`: 250 a year, and two weeks for closures."""
    try:
        return day - timedelta(days=14 + math.ceil(sessions * 365.25 / 250))
    except OverflowError:
        return None


def _symbol_condition(symbols: Sequence[str] | None) -> list[str]:
    if symbols is None:
        return []
    if isinstance(symbols, str):
        raise BadParameter(f"symbols is a list of tickers, not a text: type [{symbols!r}]")
    if unusable := [symbol for symbol in symbols if not isinstance(symbol, str) or "\0" in symbol]:
        raise BadParameter(f"symbols is a list of tickers as text, it holds {unusable[0]!r}")
    return [f"symbol in ({literal_list(symbols)})" if symbols else "false"]


def _symbols_of(relation: "DuckDBPyRelation") -> set[str]:
    return {symbol for (symbol,) in relation.select("symbol").distinct().fetchall()}
