"""Turn tables of this process into Parquet objects."""

import io
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq


def small_parquet(table: pa.Table, increasing: Sequence[str] = ()) -> bytes:
    """Write a table as all but the bars are stored; increasing columns as their differences."""
    sink = io.BytesIO()
    others = [name for name in table.column_names if name not in increasing]
    encoding = dict.fromkeys(increasing, "DELTA_BINARY_PACKED")
    pq.write_table(table, sink, compression="zstd", use_dictionary=others, column_encoding=encoding or None)
    return sink.getvalue()
