"""Bars to hold indicators against: real ones, and awkward ones made on purpose."""

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from conftest import ROOT
from references import Bars, Values

from alchemiser_duck.panel.execution import OrderedScan, compute
from alchemiser_duck.panel.plan import panel_in_order
from alchemiser_duck.query.catalogue import PanelEntry, built_in_files

REAL = pq.read_table(ROOT / "alchemiser_duck" / "sandbox" / "data" / "real_bars.parquet")


def real_bars(symbol: str) -> Bars:
    """As the sandbox serves them; the vendor's file has no vwap, so the typical price stands in for it."""
    rows = [row for row in REAL.to_pylist() if row["symbol"] == symbol]
    columns = {name: np.array([row[name] for row in rows], dtype=float) for name in ("open", "high", "low", "close")}
    volume = np.array([row["volume"] for row in rows], dtype=float)
    return Bars(**columns, vwap=(columns["high"] + columns["low"] + columns["close"]) / 3, volume=volume)


def around(closes: Values, seed: int = 7) -> Bars:
    """Bars with these closes: opens, highs and lows scattered around them, volumes all over the place."""
    random = np.random.default_rng(seed)
    size = len(closes)
    opens = closes * np.exp(random.normal(0, 0.01, size))
    highs = np.maximum(opens, closes) * np.exp(np.abs(random.normal(0, 0.01, size)))
    lows = np.minimum(opens, closes) * np.exp(-np.abs(random.normal(0, 0.01, size)))
    volume = np.floor(random.uniform(1e3, 1e7, size))
    return Bars(opens, highs, lows, closes, (highs + lows + closes) / 3, volume)


def flat(closes: Values) -> Bars:
    """Bars that do not move between open and close."""
    return Bars(closes, closes, closes, closes, closes, np.full(len(closes), 1000.0))


def awkward_bars() -> dict[str, Bars]:
    random = np.random.default_rng(7)
    walk = np.exp(np.cumsum(random.normal(0, 0.02, 4000)))
    cheap = around(walk[:800] * 50)
    seldom = np.where(np.arange(800) % 3 == 0, 0.0, cheap.volume)
    return {
        "constant": flat(np.full(700, 12.5)),
        "constant after a jump": flat(np.concatenate([[1e5, 1.0], np.full(700, 1.0)])),
        "flat, then moving": around(np.concatenate([np.full(200, 10.0), walk[:500] * 10])),
        "moving, then flat": flat(np.concatenate([walk[:500] * 10, np.full(600, 7.0)])),
        "one bar": around(np.array([3.0])),
        "shorter than the window": around(np.array([3.0, 4.0, 5.0])),
        "tiny": around(walk * 1e-4),
        "huge": around(walk * 1e6),
        "over ten orders of magnitude": around(np.exp(np.linspace(np.log(1e-4), np.log(1e6), 3000)) * walk[:3000]),
        "rising only": around(np.arange(1.0, 500.0)),
        "falling only": around(np.arange(500.0, 1.0, -1.0)),
        "a third without volume": Bars(cheap.open, cheap.high, cheap.low, cheap.close, cheap.vwap, seldom),
        "long": around(np.exp(np.cumsum(random.normal(0, 0.01, 25_000)))),
    }


def bar_relation(con: duckdb.DuckDBPyConnection, name: str, cases: dict[str, Bars]) -> None:
    """Every case as a symbol of one relation."""
    con.execute("set timezone = 'UTC'")
    con.execute(
        f"create table {name} (symbol varchar, date date, timestamp timestamptz, open double, high double, "
        "low double, close double, vwap double, volume bigint)"
    )
    for symbol, bars in cases.items():
        arrays = {field: getattr(bars, field) for field in ("open", "high", "low", "close", "vwap", "volume")}
        rows = pa.table({"symbol": [symbol] * len(bars), "number": range(len(bars)), **arrays})
        con.register("rows_given", rows)
        con.execute(
            f"insert into {name} select symbol, date '1900-01-01' + number::integer, "
            "timestamptz '1900-01-01 05:00:00+00' + to_days(number::integer), open, high, low, close, vwap, volume "
            "from rows_given order by number"
        )
        con.unregister("rows_given")


def panel_in_lanes(con: duckdb.DuckDBPyConnection, entries: list[PanelEntry], source: str) -> pa.Table | None:
    """The panel over rows in order, on connections side by side; None: it is not made for that."""
    asked = panel_in_order(entries, source, [])
    if asked is None:
        return None
    streams = duckdb.connect(":memory:", config={"threads": 1})
    streams.execute("set global timezone = 'UTC'")
    for file in built_in_files():
        if file.is_function:
            streams.execute(file.text)
    query = OrderedScan(asked.rows, asked.columns, lambda most_bars, whole: asked.query(most_bars, whole, counted=True))
    return con.from_arrow(compute(query, con.sql(asked.rows).to_arrow_table(), streams.cursor)).to_arrow_table()
