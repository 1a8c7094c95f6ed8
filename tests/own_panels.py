"""Put a user's own indicator into a panel, or run it unchanged."""

from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from alchemiser_duck.query.catalogue import IndicatorCall, PanelEntry, SqlFile


def own(con: duckdb.DuckDBPyConnection, body: str, n: int) -> PanelEntry:
    """Define an indicator `own` over SOURCE, and return its entry."""
    text = body.replace("SOURCE", "query_table(source)")
    file = SqlFile(Path("own.sql"), f"create or replace macro own(n := 5, source := 'bars') as table (\n{text}\n);")
    con.execute(file.text)
    call = IndicatorCall(file, {"n": str(n)})
    types = {name: kind for name, kind, *_ in con.execute(f"describe from {call.sql('cut')}").fetchall()}
    source = frozenset(name for name, *_ in con.execute("describe cut").fetchall())
    return PanelEntry(call, {name: f"own_{name}" for name in list(types)[2:]}, types, source)


def assert_same(got: pa.Table, expected: pa.Table) -> None:
    """Compare columns to 1e-9 of the value, or of the largest one."""
    assert got.num_rows == expected.num_rows > 0
    assert got.select(["symbol", "timestamp"]).equals(expected.select(["symbol", "timestamp"]))
    for name in expected.column_names[2:]:
        column, other = got[f"own_{name}"], expected[name]
        assert column.type == other.type, name
        assert column.is_null().equals(other.is_null()), name
        if pa.types.is_float64(column.type):
            column, other = (values.fill_null(0).to_numpy() for values in (column, other))
            np.testing.assert_allclose(column, other, rtol=1e-9, atol=1e-9 * np.nanmax(np.abs(other)), err_msg=name)
        else:
            assert column.equals(other), name


def as_it_stands(con: duckdb.DuckDBPyConnection, entry: PanelEntry) -> pa.Table:
    """Run the indicator's text unchanged."""
    return con.sql(f"from {entry.call.sql('cut')} order by symbol, timestamp").to_arrow_table()
