"""The analysis counts leading nulls and finds the bar that matters."""

import pytest
import sqlglot

from alchemiser_duck.panel.nullability import Nullability, UnknownRowCount, frame_rows, whole_number

IN_ORDER = "partition by symbol order by timestamp"
COLUMNS = {
    "bar": f"row_number() over ({IN_ORDER})",
    "before": f"lag(close, 2 + 3) over ({IN_ORDER})",
    "change": "close / before - 1",
    "seen": f"count(change) over ({IN_ORDER} rows 9 preceding)",
    "gap": f"lag(gappy) over ({IN_ORDER})",
    "unknown": f"lag(close, abs(2)) over ({IN_ORDER})",
    "mean": f"avg(change) over ({IN_ORDER} rows 9 preceding)",
    "rise": "difference(close, before)",
    "even": "snapped(gap, close)",
    "near": "snapped(before, without_noise(change, 100))",
    "never": "null_as_nan(gappy) + coalesce(gappy, 0)",
    "guessed": "try_cast('none' as double)",
    "foreign": "somebodys(close)",
    "result": "case when seen = 10 then mean end",
    "other": "case when bar < 21 then 0 else before end",
}


@pytest.fixture(scope="module")
def nullability() -> Nullability:
    columns = {name: sqlglot.parse_one(text, read="duckdb") for name, text in COLUMNS.items()}
    return Nullability(columns, columns.keys(), {"result", "other"}, {"close": True})


@pytest.mark.parametrize(
    ("column", "nulls"),
    [
        *(("bar", 0), ("before", 5), ("change", 5), ("gap", None), ("unknown", None), ("result", None)),
        *(("rise", 5), ("even", None), ("near", 5), ("never", 0), ("guessed", None), ("foreign", None)),
    ],
)
def test_leading_nulls_are_counted(nullability: Nullability, column: str, nulls: int | None) -> None:
    assert nullability.leading_nulls(sqlglot.exp.column(column)) == nulls


@pytest.mark.parametrize(
    ("condition", "bar"),
    [
        *(("bar >= 20", 20), ("bar > 20", 21), ("bar - 2 >= 20", 22), ("seen = 10", 15), ("seen >= 3", 8)),
        *(("seen = 3", None), ("seen > 10", None), ("bar <= 20", None), ("close > 20", None), ("bar >= 0", None)),
    ],
)
def test_conditions_are_true_from_a_bar_on(nullability: Nullability, condition: str, bar: int | None) -> None:
    assert nullability.true_from(sqlglot.parse_one(condition, read="duckdb")) == bar


def test_columns_matter_from_the_bar_on_which_they_are_looked_at(nullability: Nullability) -> None:
    """`mean` matters from bar 15 on, where 10 changes were seen."""
    live = {name: nullability.live_from(name) for name in ("result", "mean", "seen", "bar", "before", "change")}
    assert live == {"result": 1, "mean": 15, "seen": 1, "bar": 1, "before": 1, "change": 1}


@pytest.mark.parametrize(
    ("text", "number"),
    [("7", 7), ("(2 * 10 - 1) + 3", 22), ("7 // 2", 3), ("7 // 0", None), ("2.5", None), ("n", None)],
)
def test_whole_numbers_are_computed(text: str, number: int | None) -> None:
    assert whole_number(sqlglot.parse_one(text, read="duckdb")) == number


@pytest.mark.parametrize(
    ("frame", "rows"),
    [
        ("rows 4 preceding", (5, 0)),
        ("rows between 4 preceding and 1 preceding", (4, 1)),
        ("rows between unbounded preceding and 2 preceding", (None, 2)),
        ("", (None, 0)),
        ("rows between 1 preceding and 3 preceding", None),
        ("rows n preceding", None),
        ("range 4 preceding", None),
        ("rows between 1 preceding and 1 following", None),
    ],
)
def test_rows_of_a_frame_are_counted(frame: str, rows: tuple[int | None, int] | None) -> None:
    spec = sqlglot.parse_one(f"sum(x) over (order by t {frame})", read="duckdb").args.get("spec")
    if rows is None:
        with pytest.raises(UnknownRowCount):
            frame_rows(spec)
    else:
        assert frame_rows(spec) == rows
