"""A query over rows by symbol and time that keeps their order, on several connections side by side.

Each connection takes whole symbols. Numbers change hands as buffers: pyarrow's own ways to and from numpy import pandas
first, which takes a quarter of a second.
"""

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from duckdb import DuckDBPyConnection

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

ROWS_IN_A_PART = 100_000
"""Fewer are not worth a thread."""


@dataclass(frozen=True)
class InOrder:
    """What is computed from rows that are sorted once."""

    rows: str
    """the SELECT of the rows, in any order: symbol, timestamp, …; the stored order is soonest sorted"""
    query: Callable[[int, Mapping[str, bool]], str]
    """from the rows that a symbol has at most, and the columns without a null (true: they are doubles), to the SELECT
    over `rows_in_order`: the rows by symbol and timestamp, with `bar_number`, which counts from 1 in each symbol"""


def run(asked: InOrder, rows: "pa.Table", connect: Callable[[], DuckDBPyConnection]) -> "pa.Table":
    """The result for the rows, by symbol and timestamp.

    Args:
        connect: opens a connection that runs a query in the thread that asks, and nowhere else: the order of the rows
            is what a window without an order goes by.
    """
    import numpy as np
    import pyarrow as pa

    rows, order, starts = _in_order(rows)
    sizes = np.diff(starts, append=len(order))
    whole = {one.name: pa.types.is_float64(one.type) for one in rows.schema if rows[one.name].null_count == 0}
    query = asked.query(int(sizes.max(initial=1)), whole)

    def compute(bounds: tuple[int, int]) -> "pa.Table":
        first, after = bounds
        symbols = slice(*np.searchsorted(starts, bounds))
        numbers = np.arange(first + 1, after + 1) - np.repeat(starts[symbols], sizes[symbols])
        part = rows.take(_array(order[first:after])).append_column("bar_number", _array(numbers))
        connection = connect()
        connection.register("rows_in_order", part)
        return connection.sql(query).to_arrow_table()

    parts = _parts(starts, len(order))
    with ThreadPoolExecutor(len(parts), "alchemiser-duck-compute") as pool:
        return pa.concat_tables(pool.map(compute, parts))


def _in_order(rows: "pa.Table") -> "tuple[pa.Table, np.ndarray[Any, Any], np.ndarray[Any, Any]]":
    """The rows in one piece, the places of the rows by symbol and timestamp, and where among those each symbol begins.

    Partitions are stored in that order: to bring the years of each symbol together is half the work of a sort.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    names = rows["symbol"].combine_chunks().dictionary_encode("encode")
    ranks = np.from_dlpack(pc.rank(names.dictionary)) - 1
    # numpy sorts numbers of 16 bits by counting
    symbols = ranks.astype(np.uint16 if len(ranks) <= 1 << 16 else np.int32)[np.from_dlpack(names.indices)]
    columns = {name: rows[name].combine_chunks() for name in rows.column_names} | {"symbol": names}
    rows = pa.Table.from_arrays(list(columns.values()), list(columns))
    order: np.ndarray[Any, Any] = np.argsort(symbols, kind="stable")
    sorted_symbols = symbols[order]
    if not _rises(sorted_symbols, columns["timestamp"].take(_array(order))):
        keys = pa.Table.from_arrays([_array(symbols), columns["timestamp"]], ["symbol", "timestamp"])
        order = np.from_dlpack(pc.sort_indices(keys, [("symbol", "ascending"), ("timestamp", "ascending")]))
    return rows, order, np.searchsorted(sorted_symbols, np.arange(len(ranks), dtype=symbols.dtype))


def _rises(symbols: "np.ndarray[Any, Any]", times: "pa.Array") -> bool:
    """Whether each row comes after the one before it, or is another symbol's."""
    import pyarrow.compute as pc

    numbers = _array(symbols)
    begins = pc.not_equal(numbers[1:], numbers[:-1])
    later = pc.greater(times[1:], times[:-1])
    return pc.all(pc.or_kleene(begins, later), skip_nulls=False).as_py() is True


def _array(values: "np.ndarray[Any, Any]") -> "pa.Array":
    """The same numbers as Arrow."""
    import pyarrow as pa

    return pa.Array.from_buffers(getattr(pa, values.dtype.name)(), len(values), [None, pa.py_buffer(values)])


def _parts(starts: "np.ndarray[Any, np.dtype[np.int64]]", rows: int) -> list[tuple[int, int]]:
    """First row and row after the last of each part: as many as there are cores, of whole symbols."""
    import numpy as np

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = max(1, min(cores, rows // ROWS_IN_A_PART))
    begun = np.searchsorted(starts, [rows * part // count for part in range(count)])
    bounds = sorted({0, *(int(starts[symbol]) for symbol in begun if symbol < len(starts)), rows})
    return list(pairwise(bounds)) or [(0, 0)]
