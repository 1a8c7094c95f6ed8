"""Output: the data of a command goes to stdout or a file, in one of four forms, and only through here."""

import json
import os
import sys
from datetime import date, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from rich.console import Console
from rich.table import Table

from alchemiser_duck.cli import console
from alchemiser_duck.errors import BadParameter

if TYPE_CHECKING:
    from duckdb import DuckDBPyRelation

TABLE_ROWS = 40
"""Rows a table shows unless --limit says otherwise."""


class Format(StrEnum):
    """How rows are written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


def write(
    rows: "DuckDBPyRelation | pa.Table",
    form: Format = Format.TABLE,
    path: Path | None = None,
    limit: int | None = None,
) -> None:
    """Write rows; a table is cut to 40, loudly, unless limit says otherwise (0: all). JSON: an array of objects."""
    table: pa.Table = rows if isinstance(rows, pa.Table) else rows.to_arrow_table()
    if limit is None:
        limit = TABLE_ROWS if form is Format.TABLE else 0
    shown = table.slice(0, limit) if limit else table
    try:
        _write(shown, form, path)
    except OSError as problem:
        raise BadParameter(f"cannot write {path}: {problem.strerror}") from problem
    if shown.num_rows < table.num_rows:
        console.warning(f"{shown.num_rows} of {table.num_rows} rows are shown; add --limit 0 for all")


def text(line: str = "") -> None:
    """One plain line of data."""
    _emit(console.printable(line) + "\n", None)


def _write(table: pa.Table, form: Format, path: Path | None) -> None:
    match form:
        case Format.PARQUET:
            if path is None:
                raise BadParameter("parquet is not for a terminal: add --output FILE.parquet")
            import pyarrow.parquet as pq

            pq.write_table(table, path, compression="zstd")
        case Format.CSV:
            import pyarrow.csv

            sink = pa.BufferOutputStream()
            pyarrow.csv.write_csv(_flat(table), sink)
            _emit(sink.getvalue().to_pybytes().decode(), path)
        case Format.JSON:
            _emit(json.dumps(table.to_pylist(), default=_json, indent=None if path else 2) + "\n", path)
        case Format.TABLE:
            screen = Console(highlight=False, no_color=path is not None)
            if path or not screen.is_terminal:
                screen.width = 10_000  # a file has no width: never cut a cell there
            with screen.capture() as captured:
                screen.print(_rich(table))
            _emit(captured.get(), path)


def _emit(content: str, path: Path | None) -> None:
    if path is not None:
        path.write_text(content, encoding="utf-8")
        return
    try:
        sys.stdout.write(content)
        sys.stdout.flush()
    except BrokenPipeError:  # `| head` has seen enough; what is left in the buffer goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _flat(table: pa.Table) -> pa.Table:
    """CSV knows no nesting: lists and structs become JSON texts."""
    for index, column in enumerate(table.columns):
        if pa.types.is_nested(column.type):
            texts = [None if value is None else json.dumps(value, default=_json) for value in column.to_pylist()]
            table = table.set_column(index, table.column_names[index], pa.array(texts, pa.string()))
    return table


def _rich(table: pa.Table) -> Table:
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for name, kind in zip(table.column_names, table.schema.types, strict=True):
        shown.add_column(name, justify="right" if _is_number(kind) else "left", no_wrap=True)
    for row in zip(*(column.to_pylist() for column in table.columns), strict=True):
        shown.add_row(*(_cell(value) for value in row))
    return shown


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _cell(value: Any) -> str:
    match value:
        case None:
            return ""
        case float():
            return f"{value:.10g}"
        case datetime():
            return value.isoformat(sep=" ").replace("+00:00", "Z")
        case list() | dict():
            return json.dumps(value, default=_json)
        case _:
            return console.printable(str(value)).replace("\n", "\\n").replace("[", r"\[")


def _json(value: Any) -> str:
    if isinstance(value, datetime | date):
        return value.isoformat().replace("+00:00", "Z")
    return str(value)
