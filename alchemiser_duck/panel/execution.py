"""A query over rows by symbol and time that keeps their order, on several connections side by side.

Each connection takes whole symbols. Its query sees them in blocks: a row is so many bars of a symbol, one after the
other, a lane each. Numbers change hands as buffers: pyarrow's own ways to and from numpy import pandas first, which
takes a quarter of a second.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from itertools import pairwise
from threading import Thread
from typing import TYPE_CHECKING, Any

from duckdb import DuckDBPyConnection, DuckDBPyRelation

from alchemiser_duck.lake.mirror import Copies
from alchemiser_duck.query.catalogue import PanelEntry
from alchemiser_duck.query.literals import identifier
from alchemiser_duck.query.session import DuckDBSession
from alchemiser_duck.query.statement import Lens, Query
from alchemiser_duck.query.translation import translated

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

LANES = 4
"""Bars in a block. With 8, a panel's columns no longer fit a core's cache; with 2, more of its windows are lags."""

BEFORE = "before"
"""The blocks' column with how many bars their symbol has before them."""

BLOCK_KEYS = ("symbol", BEFORE, "bars")
"""A block's columns beside its lanes. symbol: the number of the symbol; bars: how many of its lanes hold one, the first
ones; those after them repeat the symbol's last bar."""

ROWS_IN_A_PART = 100_000
"""Fewer are not worth a thread."""

ROWS_IN_A_BATCH = 122_880
"""DuckDB's threads take the result a batch each; few and large ones leave some of them idle."""


@dataclass(frozen=True)
class OrderedScan:
    """A computation over rows that are sorted once."""

    rows: str
    """the SELECT of the rows, in any order: symbol, timestamp, …; the stored order is soonest sorted"""
    columns: Sequence[str]
    """the columns of the rows that `rows_in_order` has lanes of"""
    query: Callable[[int, Mapping[str, bool]], str]
    """from the rows that a symbol has at most, and the columns without a null (true: they are doubles), to the SELECT
    over `rows_in_order`, the blocks: the symbol's number, the timestamp, …, in the order of the rows"""
    beside: str | None = None
    """the SELECT of more columns for the same rows, in any order: symbol, timestamp, …"""
    names: Sequence[str] = ()
    """the columns of the result, in this order, where there are some beside"""
    in_lanes: Sequence[PanelEntry] = ()
    """what is computed from the rows; the others are beside"""


def lane(place: int, number: int) -> str:
    """The blocks' column with a lane of the source's column at a place."""
    return f"r{place}_{number}"


def run_ordered(session: DuckDBSession, scan: OrderedScan, names: str, lens: Lens, copies: Copies) -> DuckDBPyRelation:
    """Read the rows of a scan, compute its query over them in lanes, and put what is beside next to it.

    Raises:
        TornRead, QueryFailed: as the session's `run` does.
    """
    # needed later, takes 0.3 s, and DuckDB has none of Python's lock while it scans
    Thread(target=import_module, args=("pyarrow.dataset",), daemon=True).start()
    session.stream(names)  # opens while objects arrive
    rows = session.rows(Query(scan.rows, names, lens), copies)
    connection = session.connection()
    with translated():
        result = compute(scan, rows, lambda: session.stream(names))
        if scan.beside is None:
            return connection.from_arrow(result)
        beside = session.rows(Query(scan.beside, names, lens), copies)
        both = widened(result, beside)
        if both is not None:
            return connection.from_arrow(both.select(scan.names))
        connection.register("in_lanes", result)
        connection.register("beside_them", beside)
        listed = ", ".join(map(identifier, scan.names))
        joined = "in_lanes left join beside_them using (symbol, timestamp)"
        ordered = connection.sql(f"select {listed} from {joined} order by symbol, timestamp")
        return connection.from_arrow(ordered.to_arrow_table())


def compute(scan: OrderedScan, rows: "pa.Table", connect: Callable[[], DuckDBPyConnection]) -> "pa.Table":
    """Compute a scan's query over its rows, by symbol and timestamp.

    Args:
        connect: opens a connection that runs a query in the thread that asks, and nowhere else: the order of the rows
            is what a window without an order goes by.
    """
    import pyarrow as pa

    rows, whole = _with_doubles(rows), _without_nulls(rows)
    numbers = [name for name in scan.columns if name != "symbol"]
    with ThreadPoolExecutor(_cores() + 1, "alchemiser-duck-compute") as pool:
        runs = pool.submit(_Runs.of, rows["symbol"])
        values = dict(zip(numbers, pool.map(lambda name: rows[name].combine_chunks(), numbers), strict=True))
        order = _Order.of(runs.result(), _moments(values["timestamp"]))
        query = pool.submit(scan.query, int(order.sizes.max(initial=1)), whole)  # is written while rows are gathered

        def compute(part: slice) -> "pa.Table":
            blocks = _blocks(scan.columns, values, order, part)
            connection = connect()
            connection.register("rows_in_order", blocks)
            return _named(connection.sql(query.result()).to_arrow_table(ROWS_IN_A_BATCH), order.runs.names)

        return pa.concat_tables(pool.map(compute, _parts(order.sizes)))


def lane_query(scan: OrderedScan, rows: "pa.Table") -> str:
    """Write the query that `compute` runs over these rows."""
    import pyarrow.compute as pc

    counts = pc.value_counts(rows["symbol"]).field("counts") if len(rows) else []
    return scan.query(max([1, *(count.as_py() for count in counts)]), _without_nulls(rows))


def _with_doubles(rows: "pa.Table") -> "pa.Table":
    """The rows with floats as doubles, as DuckDB's sums of them are."""
    import pyarrow as pa

    fields = [field.with_type(pa.float64()) if field.type == pa.float32() else field for field in rows.schema]
    return rows.cast(pa.schema(fields))


def _without_nulls(rows: "pa.Table") -> dict[str, bool]:
    """The columns without a null; true: they are doubles."""
    import pyarrow as pa

    fields = [field for field in rows.schema if rows[field.name].null_count == 0]
    return {field.name: pa.types.is_floating(field.type) for field in fields}


def widened(rows: "pa.Table", more: "pa.Table") -> "pa.Table | None":
    """The rows with more columns beside them; None means those are not of the same rows.

    Args:
        rows: by symbol and timestamp.
        more: symbol, timestamp, …, in any order.
    """
    more = more.combine_chunks()
    order = _Order.of(_Runs.of(more["symbol"]), _moments(more["timestamp"].combine_chunks()))
    more = more.take(_array(order.places(slice(0, len(order.sizes)))))
    symbols, their_symbols = (table["symbol"].cast("string") for table in (rows, more))
    if not (more["timestamp"].equals(rows["timestamp"]) and their_symbols.equals(symbols)):
        return None
    for name in more.column_names[2:]:
        rows = rows.append_column(name, more[name])
    return rows


@dataclass(frozen=True)
class _Runs:
    """Rows one after the other that are of one symbol; they are far fewer than rows."""

    names: "pa.Array"
    """the symbols, sorted"""
    symbols: "np.ndarray[Any, Any]"
    """of each run: the place of its symbol among the names"""
    begins: "np.ndarray[Any, Any]"
    lengths: "np.ndarray[Any, Any]"

    @classmethod
    def of(cls, symbols: "pa.ChunkedArray") -> "_Runs":
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        if pa.types.is_dictionary(symbols.type):  # an enum, of which Arrow finds no runs
            symbols = symbols.cast(symbols.type.value_type)
        runs = [pc.run_end_encode(chunk) for chunk in symbols.chunks]
        ends = [np.diff(np.from_dlpack(run.run_ends), prepend=np.int32(0)) for run in runs]
        lengths = np.concatenate([np.empty(0, np.int32), *ends])
        given = pa.chunked_array([run.values for run in runs], symbols.type).dictionary_encode("encode")
        given = given.combine_chunks()
        ranks = np.from_dlpack(pc.rank(given.dictionary)).astype(np.int32) - 1
        return cls(
            given.dictionary.take(pc.sort_indices(given.dictionary)),
            ranks[np.from_dlpack(given.indices)],
            np.cumsum(lengths, dtype=np.int32) - lengths,
            lengths,
        )


@dataclass(frozen=True)
class _Order:
    """The places of the rows, by symbol and, within it, by time.

    A symbol's are mostly by time already: partitions are stored that way, which a join with actions moves a little. New
    memory costs more than what is done with it.
    """

    runs: _Runs
    """by symbol, and where they were one after the other"""
    sizes: "np.ndarray[Any, Any]"
    """how many rows each symbol has"""
    times: "np.ndarray[Any, Any]"
    unsorted: "np.ndarray[Any, Any]"
    """the symbols whose rows are not by time"""

    @classmethod
    def of(cls, runs: _Runs, times: "np.ndarray[Any, Any]") -> "_Order":
        import numpy as np

        # numpy sorts numbers of 16 bits by counting
        few = len(runs.names) <= 1 << 16
        by_symbol = np.argsort(runs.symbols.astype(np.uint16) if few else runs.symbols, kind="stable")
        symbols, begins, lengths = (one[by_symbol] for one in (runs.symbols, runs.begins, runs.lengths))
        back = np.flatnonzero(~(times[1:] > times[:-1])) + 1
        run_of = np.searchsorted(runs.begins, back, "right") - 1
        inside = runs.symbols[run_of[runs.begins[run_of] < back]]
        between = (symbols[1:] == symbols[:-1]) & ~(times[begins[1:]] > times[begins[:-1] + lengths[:-1] - 1])
        return cls(
            _Runs(runs.names, symbols, begins, lengths),
            np.bincount(symbols, lengths, len(runs.names)).astype(np.int64),
            times,
            np.union1d(inside, symbols[1:][between]),
        )

    def places(self, part: slice) -> "np.ndarray[Any, Any]":
        """The places of the rows of some symbols."""
        import numpy as np

        here = slice(*np.searchsorted(self.runs.symbols, [part.start, part.stop]))
        begins, lengths = self.runs.begins[here], self.runs.lengths[here]
        # a row is as far from its old place as the run that it is in
        places = np.repeat(begins - (np.cumsum(lengths, dtype=np.int32) - lengths), lengths)
        places += np.arange(len(places), dtype=np.int32)
        ends = np.cumsum(self.sizes[part])
        for symbol in self.unsorted[(self.unsorted >= part.start) & (self.unsorted < part.stop)] - part.start:
            own = places[ends[symbol] - self.sizes[part][symbol] : ends[symbol]]
            own[:] = own[np.argsort(self.times[own], kind="stable")]
        return places


def _blocks(columns: Sequence[str], values: "Mapping[str, pa.Array]", order: _Order, part: slice) -> "pa.Table":
    """The blocks of some symbols."""
    import numpy as np
    import pyarrow as pa

    sizes, places = order.sizes[part], order.places(part)
    counts = -(-sizes // LANES)
    symbols = np.repeat(np.arange(len(sizes), dtype=np.int32), counts)
    before = (np.arange(len(symbols)) - (np.cumsum(counts) - counts)[symbols]) * LANES
    bars = np.minimum(sizes[symbols] - before, LANES)
    first = (np.cumsum(sizes) - sizes)[symbols] + before
    symbols += part.start
    blocks = {"symbol": _array(symbols), BEFORE: _array(before), "bars": _array(bars)}
    for number in range(LANES):
        taken = _array(places[first + np.minimum(number, bars - 1)])
        for place, name in enumerate(columns):
            blocks[lane(place, number)] = (
                pa.DictionaryArray.from_arrays(blocks["symbol"], order.runs.names)
                if name == "symbol"
                else values[name].take(taken)
            )
    return pa.table(blocks)


def _named(result: "pa.Table", names: "pa.Array") -> "pa.Table":
    """The result with names for the numbers of symbols."""
    import pyarrow as pa

    chunks = [pa.DictionaryArray.from_arrays(chunk, names) for chunk in result["symbol"].chunks]
    symbols = pa.chunked_array(chunks, pa.dictionary(pa.int32(), names.type))
    return result.set_column(result.column_names.index("symbol"), "symbol", symbols)


def _moments(timestamps: "pa.Array") -> "np.ndarray[Any, Any]":
    """Numbers that sort as the timestamps do; null comes last."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    plain = pa.types.is_timestamp(timestamps.type) and not timestamps.null_count
    return np.from_dlpack(timestamps.view(pa.int64()) if plain else pc.rank(timestamps, tiebreaker="dense"))


def _array(values: "np.ndarray[Any, Any]") -> "pa.Array":
    """The same numbers as Arrow."""
    import pyarrow as pa

    return pa.Array.from_buffers(getattr(pa, values.dtype.name)(), len(values), [None, pa.py_buffer(values)])


def _parts(sizes: "np.ndarray[Any, Any]") -> list[slice]:
    """The symbols of each part: as many parts as there are cores, of about as many rows each."""
    import numpy as np

    ends = np.cumsum(sizes)
    rows = int(ends[-1]) if len(ends) else 0
    count = max(1, min(_cores(), rows // ROWS_IN_A_PART))
    begun = np.searchsorted(ends, [rows * part // count for part in range(1, count)], "right")
    bounds = sorted({0, *map(int, begun), len(sizes)})
    return [slice(*bounds) for bounds in pairwise(bounds)] or [slice(0, 0)]


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
