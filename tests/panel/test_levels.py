"""Levels: expressions become columns of as few SELECTs as possible, and their values stay."""

import duckdb
import pyarrow as pa
import pytest
import sqlglot
from hypothesis import given, settings
from hypothesis import strategies as st

from alchemiser_duck.panel.levels import Column, ctes, selects
from alchemiser_duck.panel.plan import _Levels
from alchemiser_duck.query.catalogue import built_in_functions

EXPRESSIONS = [
    "{a} + {b}",
    "{a} * {a} - {b}",
    "case when {a} > {b} then {a} else 0.5 end",
    "case when bar_number > 2 then {a} end",
    "case when 'c1' = 'c' || bar_number then {a} else {b} end",
    "abs({a})",
    "lag({a}, 1) over ()",
    "lag({b}, 3) over ()",
    "nan_as_null({a} - {b})",
    "nan_as_null({a})",
]
ROWS = pa.table(
    {
        "symbol": ["A"] * 9,
        "timestamp": range(9),
        "close": [1.5, float("nan"), 3.0, None, 2.0, 2.0, -1.0, 8.0, 0.0],
        "high": [4.0, 1.0, None, 2.0, float("nan"), 2.0, 3.5, -8.0, 1.0],
        "bar_number": range(1, 10),
    }
)


@pytest.fixture(scope="module")
def con() -> duckdb.DuckDBPyConnection:
    con = duckdb.connect(":memory:", config={"threads": 1})  # keeps rows in order
    con.execute(built_in_functions()["nan_as_null"].text)
    con.register("rows_in_order", ROWS)
    return con


@settings(max_examples=150, deadline=None)
@given(
    made=st.lists(st.tuples(st.sampled_from(EXPRESSIONS), st.integers(0, 99), st.integers(0, 99)), min_size=1),
    wanted=st.sets(st.integers(0, 99), min_size=1, max_size=4),
)
def test_columns_have_the_values_of_one_select_each(
    con: duckdb.DuckDBPyConnection, made: list[tuple[str, int, int]], wanted: set[int]
) -> None:
    levels, names, one_each = _Levels(), ["close", "high"], "rows_in_order"
    for expression, a, b in made:
        text = expression.format(a=names[a % len(names)], b=names[b % len(names)])
        name = levels.column(sqlglot.parse_one(text, read="duckdb")).name
        if name not in names:
            names.append(name)
            one_each = f"(select *, {text} as {name} from {one_each})"
    results = sorted({names[2:][number % len(names[2:])] for number in wanted})
    listed = ", ".join(f"{name}::varchar as {name}" for name in results)
    columns = {
        name: Column.of(value, value.sql("duckdb"), {column.name for column in value.find_all(sqlglot.exp.Column)})
        for name, value in levels.expressions.items()
    }
    selects_each = dict(ctes(columns, set(results), ["symbol", "timestamp"], "rows_in_order", "step"))
    together = con.sql(f"with {', '.join(selects_each.values())} select {listed} from {[*selects_each][-1]}").fetchall()
    assert together == con.sql(f"select {listed} from {one_each}").fetchall()


def select_texts(*texts: str, wanted: str) -> list[dict[str, str]]:
    """Return the texts of the columns of each SELECT."""
    columns = {}
    for number, text in enumerate(texts, 1):
        value = sqlglot.parse_one(text, read="duckdb")
        columns[f"c{number}"] = Column.of(value, text, {column.name for column in value.find_all(sqlglot.exp.Column)})
    return [{name: column.text for name, column in select.items()} for select in selects(columns, {wanted})]


def test_a_column_named_once_is_written_where_it_is_named() -> None:
    assert select_texts("close - open", "c1 / 2", wanted="c2") == [{"c2": "(close - open) / 2"}]


def test_a_column_named_twice_is_computed_once() -> None:
    assert select_texts("close - open", "c1 * c1", wanted="c2") == [{"c1": "close - open"}, {"c2": "c1 * c1"}]


def test_a_lag_is_computed_where_it_is_named() -> None:
    """More than once, too: to hand it on costs more."""
    lag = "lag(close, 1) over ()"
    assert select_texts(lag, "close - c1", "c1 + c2", wanted="c3") == [{"c3": f"({lag}) + (close - ({lag}))"}]


def test_functions_of_the_layer_get_columns() -> None:
    """They name their argument twice."""
    made = select_texts("close - open", "nan_as_null(c1)", wanted="c2")
    assert made == [{"c1": "close - open"}, {"c2": "nan_as_null(c1)"}]


def test_columns_that_no_window_reads_are_computed_after_the_last() -> None:
    lag = "lag({}, 1) over ()"
    made = select_texts(
        "close * close", lag.format("close"), "c2 * c2", lag.format("c3"), "c4 * c4 + c1 * c1", wanted="c5"
    )
    assert [sorted(columns) for columns in made] == [["c2"], ["c3"], ["c4"], ["c1"], ["c5"]]
