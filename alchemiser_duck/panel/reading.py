"""Reads indicators as far as their warm-up needs: a range of sessions, or the newest row of each symbol.

A look-back says how many bars before a row its values depend on; so many sessions before the range are read, and no
more. A row is exact when as many bars as the look-back precede it in what was read. Where a symbol has fewer (a new
listing, a long halt, an old delisting), that symbol is computed again from its whole history, of the same versions.
"""

import math
import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING

from alchemiser_duck import exchange_calendar as calendar
from alchemiser_duck.errors import BadParameter, QueryFailed
from alchemiser_duck.lake.scan import Scan
from alchemiser_duck.panel.execution import OrderedScan, lane_query, run_ordered
from alchemiser_duck.panel.explanation import Executor, Explanation
from alchemiser_duck.panel.request import DAILY_RELATIONS, PanelRequest
from alchemiser_duck.query.catalogue import (
    BARS_BEFORE,
    DEEP_FALL,
    KEYS,
    PRICES,
    STILL_BARS,
    UNSETTLED,
    IndicatorCall,
    PanelEntry,
    SqlFile,
)
from alchemiser_duck.query.introspection import Introspection
from alchemiser_duck.query.literals import identifier, literal, literal_list, where
from alchemiser_duck.query.session import DuckDBSession, Reading
from alchemiser_duck.query.statement import Lens, Query
from alchemiser_duck.query.stored_bars import symbol_condition

if TYPE_CHECKING:
    from duckdb import DuckDBPyRelation

LATEST_WITHIN = timedelta(days=31)
"""Without a list of symbols, the newest rows are those of symbols that traded within this of the newest bar."""

PLANS_KEPT = 32
"""Texts of newest rows that are kept, a few dozen kilobytes each."""

_NUMBER = re.compile(r"U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|DOUBLE|FLOAT|DECIMAL\(.*\)|BOOLEAN")
"""DuckDB's types that a double can stand for."""

Select = Callable[[Sequence[str] | None, bool], str | OrderedScan]
"""From symbols (None means all) and whether `bars_before` is looked at, to the query of their rows."""


class PanelReader:
    """Reads panels through a session. Safe to share between threads."""

    def __init__(self, session: DuckDBSession, introspection: Introspection) -> None:
        self._session = session
        self._introspection = introspection
        self._unfused: set[SqlFile] = set()
        """the user's own indicators that failed when they were fused: their author's text decides"""
        self._newest: dict[Hashable, str] = {}
        """the SQL of newest rows that was written before"""

    def range_rows(self, request: PanelRequest, first: date | None, last: date | None) -> "DuckDBPyRelation":
        """Read the rows from one session to another, both included, by symbol and timestamp; None means no bound."""
        times = _times(first, last)

        def select(symbols: Sequence[str] | None, counted: bool) -> str | OrderedScan:
            return self._range_query(request, symbols, times, counted=counted)

        def read(reading: Reading) -> "DuckDBPyRelation":
            since = self._since(request, first) if first else None
            reading.listing.prefetch(request.scan(since), request.today)
            since = _unless_all(since, reading)
            return self._read_exact(reading, request, since, select, first)

        return self._with_plain_fallback(request, read)

    def latest_rows(self, request: PanelRequest) -> "DuckDBPyRelation":
        """Read the newest row of each symbol, by symbol; of all symbols, those within LATEST_WITHIN of the newest."""

        def read(reading: Reading) -> "DuckDBPyRelation":
            return self._latest_exact(reading, request, self._since_latest(reading, request))

        return self._with_plain_fallback(request, read)

    def latest_values(self, request: PanelRequest) -> "DuckDBPyRelation":
        """Read the newest value of each call for the symbols that it is asked for, one row each.

        Raises:
            BadParameter: a value is no number.
        """
        import pyarrow as pa

        newest, rows = self.latest_rows(request), []
        for entry, symbols in zip(self.entries(request), request.symbols_of_calls or (), strict=True):
            parameters = ", ".join(f"{name}={value}" for name, value in entry.call.arguments.items())
            for output, label in entry.columns.items():
                rows += [(symbol, label, entry.call.file.name, parameters, output) for symbol in sorted(symbols)]
        for label, kind in zip(newest.columns[len(KEYS) :], map(str, newest.types[len(KEYS) :]), strict=True):
            if not _NUMBER.fullmatch(kind):
                raise BadParameter(f"{label} is no number but {kind}: ask for it with indicators_table")
        names = ("symbol", "label", "indicator", "parameters", "output")
        connection = self._session.connection()
        connection.register("newest", newest.to_arrow_table())
        connection.register("wanted", pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))))
        labels = [identifier(label) for label in dict.fromkeys(row[1] for row in rows)]
        doubles = ", ".join(f"{label}::double as {label}" for label in labels)
        connection.execute(
            "create temporary table result as select symbol, timestamp, indicator, parameters, output, value "
            f"from (select symbol, timestamp, {doubles} from newest) "
            f"unpivot include nulls (value for label in ({', '.join(labels)})) join wanted using (symbol, label) "
            "order by symbol, indicator, parameters, output"
        )
        return connection.table("result")

    def _latest_exact(
        self, reading: Reading, request: PanelRequest, since: date | None, *, within: bool = True
    ) -> "DuckDBPyRelation":
        """Read the newest rows from the bars since a day, and from all bars where those do not decide the values.

        Args:
            within: no indicator reads further back than its look-back says.
        """

        def select(symbols: Sequence[str] | None, counted: bool) -> str:  # noqa: ARG001 (it counts in any case)
            return self._latest_query(request, symbols, within=within)

        result = self._rows(reading, request, since, select)
        if not within:
            return _without_count(result)
        if since is not None and request.symbols is None and not len(result):  # the newest bars are older than that
            return self._latest_exact(reading, request, None)
        counts = dict(result.select(f"symbol, {BARS_BEFORE}").fetchall())
        look_back = self.look_back(request) or 0
        symbols = list(counts) if request.symbols is None else request.symbols
        unsettled = {symbol for symbol, count in counts.items() if count == UNSETTLED}
        young = {symbol for symbol in symbols if symbol not in counts or counts[symbol] < look_back} - unsettled
        parts = [(unsettled, False), (young if since is not None else set(), True)]
        again = [
            self._latest_exact(reading, replace(request, symbols=tuple(sorted(symbols))), None, within=within)
            for symbols, within in parts
            if symbols
        ]
        if not again:
            return _without_count(result)
        others = set().union(*(symbols for symbols, _ in parts))
        exact = _without_count(result.filter(f"symbol not in ({literal_list(sorted(others))})"))
        return self._session.stack(exact, *again)

    def _latest_query(self, request: PanelRequest, symbols: Sequence[str] | None, *, within: bool = True) -> str:
        from alchemiser_duck.panel.plan import newest_panel  # sqlglot takes 0.1 s to import

        entries, names = self.entries(request), None if symbols is None else tuple(symbols)
        if not within:
            entries = [replace(entry, look_back=None) for entry in entries]
        # a strategy asks the same again and again, and 133 columns take 0.3 s to plan
        key = (request.source, names, *(entry.key for entry in entries))
        if key not in self._newest:
            if len(self._newest) >= PLANS_KEPT:
                self._newest.clear()
            self._newest[key] = newest_panel(entries, request.source, symbol_condition(symbols), symbols)
        newest = self._newest[key]
        if request.symbols is not None:
            return f"from ({newest}) order by symbol"
        seen = f"select *, max(timestamp) over () as newest_seen from ({newest})"
        recent = f"timestamp >= newest_seen - interval {LATEST_WITHIN.days} day"
        return f"select * exclude (newest_seen) from ({seen}) where {recent} order by symbol"

    def _since_latest(self, reading: Reading, request: PanelRequest) -> date | None:
        """The first day to read for the newest rows, of a lake that may have ended long ago; None means all of them."""
        day = request.today
        reading.listing.prefetch(request.scan(self._since(request, day - LATEST_WITHIN)), day)
        self._session.connection(names=request.names)  # loads while S3 answers
        stored = reading.listing.newest_day() or day
        since = self._since(request, min(day, stored) - LATEST_WITHIN)
        since = date(since.year, 1, 1) if since and stored < day else since  # bars end some time in that year
        return _unless_all(since, reading)

    def explain(self, request: PanelRequest, first: date | None, last: date | None, *, latest: bool) -> Explanation:
        """Tell what the rows of a request take; bars are read, since the SQL in lanes depends on how many there are.

        Symbols that lack their look-back are left out: the same runs again for them, over their whole history.
        """
        from alchemiser_duck.panel.plan import column_plans

        times = _times(first, last)

        def read(reading: Reading) -> Explanation:
            since = self._since_latest(reading, request) if latest else self._since(request, first) if first else None
            scan, entries = request.scan(since), self.entries(request)
            if latest:
                text = self._latest_query(request, request.symbols)
                columns = column_plans(entries, request.source, Executor.NEWEST)
                return Explanation(scan, (("the newest row of each symbol", text),), tuple(columns))
            query = self._range_query(request, request.symbols, times, counted=since is not None)
            if isinstance(query, str):
                executor = Executor.AS_IT_STANDS if _is_single(request) else Executor.WINDOWS
                columns = column_plans(entries, request.source, executor)
                return Explanation(scan, (("every row", query),), tuple(columns))
            with reading.copies(scan) as copies:
                rows = self._session.rows(Query(query.rows, request.names, Lens(since, request.as_of)), copies)
            steps = [("the rows, which are then sorted by symbol and time", query.rows)]
            steps += [("over rows_in_order: four bars of a symbol in a row", lane_query(query, rows))]
            steps += [("beside them, joined by symbol and timestamp", query.beside)] if query.beside else []
            columns = column_plans(entries, request.source, Executor.WINDOWS, query.in_lanes)
            return Explanation(scan, tuple(steps), tuple(columns))

        return self._session.reading(request.names, read)

    def entries(self, request: PanelRequest) -> list[PanelEntry]:
        """The indicators of a request with the names of their columns.

        Raises:
            BadParameter: two columns would have the same name.
        """
        taken: set[str] = set()
        entries = []
        look_backs = self._look_backs(request)
        symbols: Sequence[frozenset[str] | None] = request.symbols_of_calls or [None] * len(request.calls)
        if request.symbols is not None:  # some are read again, over their whole history
            symbols = [asked and asked & set(request.symbols) for asked in symbols]
        for call, stem, look_back, asked in zip(request.calls, request.stems, look_backs, symbols, strict=True):
            columns = self.value_columns(call, request.source)
            labels = {column: column if stem is None else _label(call, stem, column) for column in columns}
            if twice := sorted(taken & set(labels.values())):
                raise BadParameter(f"two of the indicators would both be called {twice[0]}: ask for each once")
            taken |= set(labels.values())
            entries.append(replace(self._entry(call, labels, request.source), look_back=look_back, symbols=asked))
        return entries

    def value_columns(self, call: IndicatorCall, source: str) -> list[str]:
        """The value columns of an indicator, whatever its parameters are."""
        from alchemiser_duck.panel.fusion import columns  # sqlglot takes 0.1 s to import

        names = columns(call.file) or list(self._introspection.columns_of(IndicatorCall(call.file, {}).sql(source)))
        return names[len(KEYS) :]

    def _entry(self, call: IndicatorCall, labels: Mapping[str, str], source: str) -> PanelEntry:
        if call.file.is_built_in or call.file in self._unfused:
            return PanelEntry(call, labels)
        types = self._introspection.columns_of(call.sql(source))
        return PanelEntry(call, labels, types, frozenset(map(str.lower, self._introspection.columns_of(source))))

    def _range_query(
        self, request: PanelRequest, symbols: Sequence[str] | None, times: Sequence[str], *, counted: bool
    ) -> str | OrderedScan:
        """The query of some symbols' rows: in lanes for many symbols, with plain windows for a few."""
        from alchemiser_duck.panel.plan import panel, panel_in_order  # sqlglot takes 0.1 s to import

        condition, entries = symbol_condition(symbols), self.entries(request)
        is_wide = Scan(symbols=None if symbols is None else tuple(symbols)).is_wide
        ordered = panel_in_order(entries, request.source, condition) if is_wide else None
        if ordered:

            def in_range(most_bars: int, whole: Mapping[str, bool]) -> str:
                return f"from ({ordered.query(most_bars, whole, counted=counted)}){where(times)}"

            beside = ordered.beside and f"from ({ordered.beside}){where(times)}"
            names = [*KEYS, *ordered.labels, *([BARS_BEFORE] if counted else [])]
            return OrderedScan(ordered.rows, ordered.columns, in_range, beside, names, ordered.in_lanes)
        call = request.calls[0].sql(request.source)
        rows = f"from {call}" if _is_single(request) else panel(entries, request.source, condition)
        # counting bars costs a sort of all columns: only where something asks for the count
        number = "row_number() over (partition by symbol order by timestamp) - 1" if counted else "null::bigint"
        numbered = f"select *, {number} as {BARS_BEFORE} from ({rows}){where(condition)}"
        return f"select * from ({numbered}){where(times)} order by symbol, timestamp"

    def _read_exact(
        self, reading: Reading, request: PanelRequest, since: date | None, select: Select, first: date | None
    ) -> "DuckDBPyRelation":
        """Read the selected rows from the bars since a day, and from all bars where that is not enough."""
        result = self._rows(reading, request, since, select)
        if since is None:
            return _without_count(result)
        look_back = self.look_back(request)
        fewest = dict(result.aggregate(f"symbol, min({BARS_BEFORE})", "symbol").fetchall())
        asked = fewest if request.symbols is None else request.symbols
        unsure = sorted({symbol for symbol in asked if symbol not in fewest or fewest[symbol] < look_back})
        if first and any(entry.remembers for entry in self.entries(request)):
            unsure = sorted({*unsure, *self._unsettled(reading, request, since, first)})
        if unsure:
            exact = result.filter(f"symbol not in ({literal_list(unsure)})")
            again = self._rows(reading, replace(request, symbols=tuple(unsure)), None, select)
            result = self._session.stack(exact, again)
        return _without_count(result)

    def _unsettled(self, reading: Reading, request: PanelRequest, since: date, first: date) -> list[str]:
        """Name the symbols whose warm-up does not decide the values from a session on."""
        scan = replace(request.scan(since), columns=PRICES)
        condition = where(symbol_condition(request.symbols))
        text = (
            f"select symbol from unsettled_symbols({literal(_midnight(first))}, {STILL_BARS}, {DEEP_FALL}, "
            f"source := {literal(request.source)}){condition}"
        )
        with reading.copies(scan) as copies:
            query = Query(text, f"{request.names} unsettled_symbols", Lens(since, request.as_of), is_cacheable=True)
            return [symbol for (symbol,) in self._session.run(query, copies).fetchall()]

    def _rows(self, reading: Reading, request: PanelRequest, since: date | None, select: Select) -> "DuckDBPyRelation":
        with reading.copies(request.scan(since)) as copies:
            self._session.connection(names=request.names)  # opens while objects arrive
            text = select(request.symbols, since is not None)
            lens = Lens(since, request.as_of)
            if isinstance(text, OrderedScan):
                return run_ordered(self._session, text, request.names, lens, copies)
            return self._session.run(Query(text, request.names, lens, is_cacheable=True), copies)

    def _with_plain_fallback(
        self, request: PanelRequest, read: "Callable[[Reading], DuckDBPyRelation]"
    ) -> "DuckDBPyRelation":
        """Read; where the user's own indicators fail fused, their author's text decides."""
        try:
            return self._session.reading(request.names, read)
        except QueryFailed as problem:
            if own := {call.file for call in request.calls if not call.file.is_built_in} - self._unfused:
                self._unfused |= own
                try:
                    return self._with_plain_fallback(request, read)
                except Exception:  # so it does not matter how they are run
                    self._unfused -= own
                    raise
            if any(f"{call.file.name}: " in str(problem) for call in request.calls):  # bounds are in the .sql files
                raise BadParameter(str(problem).removeprefix("Invalid Input Error: ")) from problem
            raise

    def _since(self, request: PanelRequest, day: date) -> date | None:
        """The first day to read for rows from a day on; None means all of them, for nobody tells the look-back."""
        look_back = self.look_back(request)
        return None if look_back is None else _days_before(day, look_back)

    def look_back(self, request: PanelRequest) -> int | None:
        """How many bars before a row its values depend on; None means nobody says, so all of them."""
        look_backs = self._look_backs(request)
        return None if None in look_backs else max(look_backs, default=0)  # type: ignore[type-var]

    def _look_backs(self, request: PanelRequest) -> list[int | None]:
        """How many bars before a row the values of each indicator depend on."""
        if request.source not in DAILY_RELATIONS:
            return [None] * len(request.calls)
        expressions = [(look_back_of(call.file), call.file.parameters | call.arguments) for call in request.calls]
        known = [(text, arguments) for text, arguments in expressions if text is not None]
        try:
            values = iter(map(int, self._introspection.evaluate(known) if known else ()))
            return [None if text is None else next(values) for text, _ in expressions]
        except (QueryFailed, TypeError, ValueError, OverflowError):
            return [None] * len(request.calls)  # parameters out of range: the macro itself says so


@cache
def look_back_of(file: SqlFile) -> str | None:
    """The look-back of an indicator, declared or inferred, as SQL over its parameters; None means all bars."""
    if file.look_back:
        return file.look_back
    from alchemiser_duck.query import look_back  # sqlglot is only needed for users' own files

    return look_back.infer_look_back(file)


def _unless_all(since: date | None, reading: Reading) -> date | None:
    """Return the first day to read; None where that is the first year stored: then no symbol has more to be read."""
    return None if since and reading.listing.begins_after(since) else since


def _is_single(request: PanelRequest) -> bool:
    """Tell whether one indicator is asked for under its own names, which needs no planning."""
    return request.stems == (None,)


def _times(first: date | None, last: date | None) -> list[str]:
    """The SQL conditions of a range of sessions, both included."""
    times = [f"timestamp >= {literal(_midnight(first))}"] if first else []
    return times + ([f"timestamp < {literal(_midnight(last + timedelta(days=1)))}"] if last else [])


def _label(call: IndicatorCall, stem: str, column: str) -> str:
    return stem if column == call.file.name else f"{stem}_{column}"


def _without_count(result: "DuckDBPyRelation") -> "DuckDBPyRelation":
    return result.select(f"* exclude ({BARS_BEFORE})") if BARS_BEFORE in result.columns else result


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=calendar.NEW_YORK)


def _days_before(day: date, sessions: int) -> date | None:
    """A day that surely has so many sessions before `day`: 250 a year, and two weeks for closures."""
    try:
        return day - timedelta(days=14 + math.ceil(sessions * 365.25 / 250))
    except OverflowError:
        return None
