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

ROWS_IN_A_BATCH = 122_880
"""DuckDB's threads take the result a batch each; few and large ones leave some of them idle."""


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

    rows = rows.cast(
        pa.schema([one.with_type(pa.float64()) if one.type == pa.float32() else one for one in rows.schema])
    )
    whole = {one.name: pa.types.is_float64(one.type) for one in rows.schema if rows[one.name].null_count == 0}
    names, numbers = _numbered(rows["symbol"])
    values = rows.drop_columns(["symbol"]).combine_chunks()
    order, sizes = _in_order(numbers, _moments(values["timestamp"]))
    starts = np.cumsum(sizes) - sizes

    def compute(bounds: tuple[int, int]) -> "pa.Table":
        first, after = bounds
        here = slice(*np.searchsorted(starts, bounds))
        symbols = np.repeat(np.arange(here.start, here.stop, dtype=np.int32), sizes[here])
        named = pa.DictionaryArray.from_arrays(_array(symbols), names)
        part = values.take(_array(order[first:after])).append_column("symbol", named)
        connection = connect()
        connection.register("rows_in_order", part.append_column("bar_number", _array(_counted(sizes[here]))))
        return connection.sql(query.result()).to_arrow_table(ROWS_IN_A_BATCH)

    parts = _parts(starts, len(order))
    with ThreadPoolExecutor(len(parts) + 1, "alchemiser-duck-compute") as pool:
        query = pool.submit(asked.query, int(sizes.max(initial=1)), whole)  # is written while rows are gathered
        return pa.concat_tables(pool.map(compute, parts))


def _numbered(symbols: "pa.ChunkedArray") -> "tuple[pa.Array, np.ndarray[Any, Any]]":
    """The names that there are, sorted, and the place among them of each row's."""
    import numpy as np
    import pyarrow.compute as pc

    given = symbols.dictionary_encode("encode").combine_chunks()
    ranks = np.from_dlpack(pc.rank(given.dictionary)) - 1
    # numpy sorts numbers of 16 bits by counting
    numbers = ranks.astype(np.uint16 if len(ranks) <= 1 << 16 else np.int32)[np.from_dlpack(given.indices)]
    return given.dictionary.take(pc.sort_indices(given.dictionary)), numbers


def _in_order(
    numbers: "np.ndarray[Any, Any]", times: "np.ndarray[Any, Any]"
) -> "tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]":
    """The places of the rows by symbol and, within it, by time; and how many rows each symbol has.

    They come in runs of one symbol, and runs are far fewer than rows. A symbol's are mostly by time already: partitions
    are stored that way, which a join with actions moves a little. New memory costs more than what is done with it.
    """
    import numpy as np

    goes_on = numbers[1:] == numbers[:-1]
    begins = np.flatnonzero(np.concatenate(([True], ~goes_on))[: len(numbers)]).astype(np.int32)
    runs = np.argsort(numbers[begins], kind="stable")
    lengths = np.diff(begins, append=np.int32(len(numbers)))[runs]
    begins, symbols = begins[runs], numbers[begins[runs]]
    sizes = np.bincount(symbols, lengths).astype(np.int64)
    # a row is as far from its old place as the run that it is in
    places = np.repeat(begins - (np.cumsum(lengths, dtype=np.int32) - lengths), lengths)
    places += np.arange(len(numbers), dtype=np.int32)

    inside = goes_on & ~(times[1:] > times[:-1])
    between = (symbols[1:] == symbols[:-1]) & ~(times[begins[1:]] > times[begins[:-1] + lengths[:-1] - 1])
    ends = np.cumsum(sizes)
    for symbol in np.union1d(numbers[1:][inside], symbols[1:][between]):
        own = places[ends[symbol] - sizes[symbol] : ends[symbol]]
        own[:] = own[np.argsort(times[own], kind="stable")]
    return places, sizes


def _counted(sizes: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """1, 2, 3, … for as many rows as each symbol has."""
    import numpy as np

    steps = np.ones(sizes.sum(), dtype=np.int64)
    steps[np.cumsum(sizes)[:-1]] -= sizes[:-1]
    return np.cumsum(steps, out=steps)


def _moments(timestamps: "pa.ChunkedArray") -> "np.ndarray[Any, Any]":
    """Numbers that sort as the timestamps do; null comes last."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    given = timestamps.combine_chunks()
    plain = pa.types.is_timestamp(given.type) and not given.null_count
    return np.from_dlpack(given.view(pa.int64()) if plain else pc.rank(given, tiebreaker="dense"))


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
