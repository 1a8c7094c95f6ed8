"""Results that were computed before, for as long as the objects they were computed from are the same."""

from collections import OrderedDict
from collections.abc import Hashable
from contextlib import suppress
from itertools import count
from threading import Lock

import duckdb
from duckdb import DuckDBPyConnection, DuckDBPyRelation

ROWS_AT_MOST = 100_000
"""A larger result takes as long to copy as to compute."""
VALUES_KEPT = 8_000_000

SCHEMA = "cached_results"


class ResultCache:
    """The results used last, as tables of a DuckDB of which every connection given is one. Safe to share.

    That DuckDB has a schema of the name SCHEMA. The key must tell the query, the lens and the version of every object
    that is read.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._numbers = count(1)
        self._kept: OrderedDict[Hashable, tuple[str, int]] = OrderedDict()
        """table and number of values"""

    def get(self, key: Hashable, connection: DuckDBPyConnection, name: str) -> bool:
        """Make the result of that key a temporary table of the connection; False: it is not cached."""
        with self._lock:
            if key not in self._kept:
                return False
            self._kept.move_to_end(key)
            table, _ = self._kept[key]
        try:
            connection.execute(f"create temporary table {name} as from {SCHEMA}.{table}")
        except duckdb.CatalogException:  # gone in between
            return False
        return True

    def put(self, key: Hashable, connection: DuckDBPyConnection, result: DuckDBPyRelation) -> None:
        """Keep a result of the connection, unless it is large; what was out of use longest goes."""
        rows = len(result)
        if rows > ROWS_AT_MOST:
            return
        table = f"result_{next(self._numbers)}"
        connection.execute(f"create table {SCHEMA}.{table} as from {result.alias}")
        with self._lock:
            forgotten = [self._kept.pop(key)[0]] if key in self._kept else []
            self._kept[key] = (table, rows * len(result.columns))
            while sum(values for _, values in self._kept.values()) > VALUES_KEPT:
                forgotten.append(self._kept.popitem(last=False)[1][0])
        for old in forgotten:
            with suppress(duckdb.TransactionException):  # somebody copies it just now: it stays
                connection.execute(f"drop table {SCHEMA}.{old}")
