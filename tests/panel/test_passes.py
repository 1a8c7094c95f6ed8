"""Passes over the last bars: the same newest values as one pass over all of them, for less work."""

import json
from collections.abc import Sequence
from dataclasses import replace

import duckdb
import pytest
from bar_cases import awkward_bars, bar_relation
from references import references

from alchemiser_duck.panel.passes import passes_of
from alchemiser_duck.panel.plan import newest_panel
from alchemiser_duck.query.catalogue import (
    STILL_BARS,
    UNSETTLED,
    IndicatorCall,
    PanelEntry,
    built_in_files,
    indicator_files,
)

FILES = indicator_files(None)
WINDOWS = {
    "cumulative_return": (1, 2, 5, 21, 63, 126, 252),
    "ema": (4, 10, 42, 120),
    "max_drawdown": (3, 10, 20, 60, 250),
    "moving_average_return": (2, 7, 20, 60, 200),
    "rsi": (2, 3, 5, 8, 14, 21, 40),
    "sma": (1, 5, 20, 50, 200, 500),
    "stdev_return": (5, 10, 20, 100),
}
"""What strategies ask for, thinned out."""


@pytest.fixture(scope="module")
def con() -> duckdb.DuckDBPyConnection:
    con = duckdb.connect(":memory:", config={"threads": 2})
    bar_relation(con, "cases", awkward_bars())
    for file in built_in_files():
        if file.is_indicator or file.is_stage or file.is_function:
            con.execute(file.text)
    return con


def entry(con: duckdb.DuckDBPyConnection, name: str, n: int, columns: Sequence[str] | None = None) -> PanelEntry:
    file = FILES[name]
    look_back = con.execute(f"select ({file.look_back})::int from (select {n} as n)").fetchall()[0][0]
    labels = {column: f"{column}_{n}" for column in columns or [name]}
    return PanelEntry(IndicatorCall(file, {"n": str(n)}), labels, look_back=look_back)


def strategies(con: duckdb.DuckDBPyConnection, *names: str) -> list[PanelEntry]:
    return [entry(con, name, n) for name in names or WINDOWS for n in WINDOWS[name]]


def test_passes_hold_each_indicator_once_and_reach_as_far_as_it_looks_back(con: duckdb.DuckDBPyConnection) -> None:
    entries = strategies(con)
    passes = passes_of(entries, "cases")
    assert len(passes) > 4
    labels = [label for part in passes for held in part.entries for label in held.columns.values()]
    assert sorted(labels) == sorted(label for held in entries for label in held.columns.values())
    for part in passes:
        longest = max(held.look_back or 0 for held in part.entries)
        remembers = any(held.remembers for held in part.entries)
        assert part.last_bars == longest + (STILL_BARS if remembers else 0)


def test_what_looks_back_without_a_bound_reads_all_bars(con: duckdb.DuckDBPyConnection) -> None:
    entries = [replace(held, look_back=None) if held.call.file.name == "rsi" else held for held in strategies(con)]
    unbounded = [part for part in passes_of(entries, "cases") if part.last_bars is None]
    assert {held.call.file.name for part in unbounded for held in part.entries} >= {"rsi"}
    assert all(held.call.file.name != "sma" for part in unbounded for held in part.entries)


def test_a_few_indicators_share_one_pass(con: duckdb.DuckDBPyConnection) -> None:
    entries = [entry(con, name, n) for name, n in (("sma", 20), ("sma", 50), ("sma", 200), ("rsi", 14))]
    assert len(passes_of(entries, "cases")) == 1


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("bars", [None, 1, 40, 300])
def test_the_newest_values_are_those_of_one_pass(con: duckdb.DuckDBPyConnection, bars: int | None, named: bool) -> None:
    numbered = "select *, row_number() over (partition by symbol order by timestamp) as number from cases"
    con.execute(f"create or replace temporary table cut as from ({numbered}) where number <= {bars or 'number'}")
    symbols = [symbol for (symbol,) in con.execute("select distinct symbol from cut order by symbol").fetchall()]
    entries = [*strategies(con), entry(con, "bbands", 20, references(20)["bbands"].columns)]
    whole = [replace(held, look_back=None) for held in entries]
    asked = symbols if named else None
    got, expected = (
        con.sql(f"from ({newest_panel(which, 'cut', [], asked)}) order by symbol").to_arrow_table()
        for which in (entries, whole)
    )
    assert got.column_names == expected.column_names
    for name in ("symbol", "timestamp"):
        assert got[name].to_pylist() == expected[name].to_pylist()
    counts = got["bars_before"].to_pylist()
    for symbol, count, all_bars in zip(symbols, counts, expected["bars_before"].to_pylist(), strict=True):
        assert count in (all_bars, UNSETTLED), symbol
    assert sum(count != UNSETTLED for count in counts) > 0
    for name in expected.column_names[3:]:
        values = zip(symbols, counts, got[name].to_pylist(), expected[name].to_pylist(), strict=True)
        for symbol, count, value, reference in values:
            if count == UNSETTLED:
                continue  # it is read again
            wanted = None if reference is None else pytest.approx(reference, rel=1e-9, abs=1e-7, nan_ok=True)
            assert value == wanted, (name, symbol)


def test_a_symbol_has_the_values_that_it_is_asked_for(con: duckdb.DuckDBPyConnection) -> None:
    symbols = ["huge", "tiny", "long"]
    entries = [replace(held, symbols=frozenset({"tiny"})) for held in strategies(con, "rsi", "max_drawdown")]
    entries += [replace(held, symbols=frozenset({"huge", "long"})) for held in strategies(con, "sma")]
    rows = con.sql(newest_panel(entries, "cases", [], symbols)).to_arrow_table().to_pylist()
    alone = con.sql(newest_panel([replace(held, symbols=None) for held in entries], "cases", [], symbols))
    expected = {row["symbol"]: row for row in alone.to_arrow_table().to_pylist()}
    assert sorted(row["symbol"] for row in rows) == sorted(symbols)
    for row in rows:
        for held in entries:
            for label in held.columns.values():
                if row["symbol"] in (held.symbols or ()):
                    assert row[label] == expected[row["symbol"]][label]


def work(con: duckdb.DuckDBPyConnection, entries: Sequence[PanelEntry]) -> int:
    """Count the rows that windows and aggregates of a newest panel take in."""
    query = newest_panel(entries, "cases", [])
    plan = json.loads(con.execute(f"explain (analyze, format json) {query}").fetchall()[0][1])
    waiting, rows = list(plan.get("operator") or [plan]), 0  # DuckDB 2.0 names things otherwise
    while waiting:
        operator = waiting.pop()
        children = operator.get("children", [])
        if str(operator.get("operator_type") or operator.get("type")).endswith(("WINDOW", "GROUP_BY")):
            rows += sum(child.get("operator_cardinality", child.get("intermediate_rows", 0)) for child in children)
        waiting += children
    return rows


def test_a_panel_works_no_more_than_its_families_do(con: duckdb.DuckDBPyConnection) -> None:
    """Every mix costs at most 1.2 times the sum of its parts; it was ten times."""
    alone = {name: work(con, strategies(con, name)) for name in WINDOWS}
    assert all(alone.values())
    for mix in (tuple(WINDOWS), ("rsi", "max_drawdown"), ("ema", "max_drawdown", "sma")):
        assert work(con, strategies(con, *mix)) <= 1.2 * sum(alone[name] for name in mix), mix
