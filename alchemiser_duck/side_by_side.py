"""A query over sorted rows that keeps their order, on several connections side by side: each takes whole symbols."""

import os
from collections.abc import Callable, Set
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
    """the SELECT of the rows, in any order: symbol, timestamp, …"""
    query: Callable[[int, Set[str]], str]
    """from the rows that a symbol has at most, and the columns that are doubles without a null, to the SELECT over
    `rows_in_order`: the rows by symbol and timestamp, with `bar_number`, which counts from 1 in each symbol"""


def run(asked: InOrder, rows: "pa.Table", connect: Callable[[], DuckDBPyConnection]) -> "pa.Table":
    """The result for sorted rows, in their order.

    Args:
        connect: opens a connection that runs a query in the thread that asks, and nowhere else: the order of the rows
            is what a window without an order goes by.
    """
    import numpy as np
    import pyarrow as pa

    sizes = _sizes(rows, connect())
    starts = np.cumsum(sizes) - sizes
    numbers = np.arange(1, rows.num_rows + 1) - np.repeat(starts, sizes)
    numbered = rows.append_column("bar_number", pa.array(numbers))
    sound = {name for name in rows.column_names if pa.types.is_float64(rows[name].type) and rows[name].null_count == 0}
    query = asked.query(int(sizes.max(initial=1)), sound)

    def compute(bounds: tuple[int, int]) -> "pa.Table":
        first, after = bounds
        connection = connect()
        connection.register("rows_in_order", numbered.slice(first, after - first))
        return connection.sql(query).to_arrow_table()

    parts = _parts(starts, rows.num_rows)
    with ThreadPoolExecutor(len(parts), "alchemiser-duck-compute") as pool:
        return pa.concat_tables(pool.map(compute, parts))


def _sizes(rows: "pa.Table", connection: DuckDBPyConnection) -> "np.ndarray[Any, np.dtype[np.int64]]":
    """How many rows each symbol has, by symbol."""
    connection.register("rows_read", rows)
    counted = connection.sql("select count(*) as bars from rows_read group by symbol order by symbol")
    sizes: np.ndarray[Any, np.dtype[np.int64]] = counted.to_arrow_table()["bars"].to_numpy()
    return sizes


def _parts(starts: "np.ndarray[Any, np.dtype[np.int64]]", rows: int) -> list[tuple[int, int]]:
    """First row and row after the last of each part: as many as there are cores, of whole symbols."""
    import numpy as np

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = max(1, min(cores, rows // ROWS_IN_A_PART))
    begun = np.searchsorted(starts, [rows * part // count for part in range(count)])
    bounds = sorted({0, *(int(starts[symbol]) for symbol in begun if symbol < len(starts)), rows})
    return list(pairwise(bounds)) or [(0, 0)]
