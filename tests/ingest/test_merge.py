"""A merge keeps sound bars, each session once, and counts honestly."""

import math
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from conftest import bar_rows, bar_table
from hypothesis import given, settings
from hypothesis import strategies as st

from alchemiser_duck.ingest.merge import BAR_SCHEMA, Changes, check_bars, merge_bars

if TYPE_CHECKING:
    import pyarrow as pa

DAY = date(2025, 1, 2)
VALUES = ("timestamp", "open", "high", "low", "close", "vwap", "volume", "trade_count")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ({"symbol": None}, "symbol is missing"),
        ({"symbol": " "}, "symbol is missing"),
        ({"timestamp": None}, "timestamp is missing"),
        ({"open": None}, "missing or not finite"),
        ({"close": math.nan}, "missing or not finite"),
        ({"high": math.inf}, "missing or not finite"),
        ({"low": 0.0}, "not above zero"),
        ({"low": 5e-324}, "not believed"),
        ({"high": 1e300}, "not believed"),
        ({"open": -1.0}, "not above zero"),
        ({"low": 101.5}, "high is below low"),
        ({"high": 98.5}, "high is below low"),
        ({"volume": None}, "volume"),
        ({"volume": -1}, "volume"),
        ({"is_final": None}, "is_final"),
    ],
)
def test_check_quarantines_a_bar_that_breaks_the_contract_and_keeps_the_rest(
    damage: dict[str, Any], reason: str
) -> None:
    good = bar_rows("AAPL", [DAY])[0]
    checked = check_bars(bar_table([{**good, "symbol": "BAD"} | damage, good]))
    assert checked.bars["symbol"].to_pylist() == ["AAPL"]
    assert len(checked.quarantined) == 1
    assert reason in checked.quarantined[0].reason


def test_check_accepts_what_is_odd_but_sound() -> None:
    """Zero volume, a flat bar, 1e-4, 1e6, no vwap, an open outside of high and low: all happen."""
    rows = [
        bar_rows("ZERO", [DAY])[0] | {"volume": 0},
        bar_rows("FLAT", [DAY])[0] | {"open": 5.0, "high": 5.0, "low": 5.0, "close": 5.0},
        bar_rows("TINY", [DAY])[0] | {"open": 1e-4, "high": 1e-4, "low": 1e-4, "close": 1e-4},
        bar_rows("HUGE", [DAY])[0] | {"open": 1e6, "high": 1e6, "low": 1e6, "close": 1e6},
        bar_rows("NULL", [DAY])[0] | {"vwap": None, "trade_count": None},
    ]
    rows += [
        bar_rows("AAAA", [DAY])[0] | {"open": 25.05, "high": 25.04, "low": 25.04, "close": 25.04},
        *(bar_rows(f"VW{n}", [DAY])[0] | {"vwap": vwap} for n, vwap in enumerate([0.0, -1.0, math.nan, math.inf])),
        bar_rows("LESS", [DAY])[0] | {"trade_count": -1},
    ]
    checked = check_bars(bar_table(rows))
    assert sorted(checked.bars["symbol"].to_pylist()) == sorted(row["symbol"] for row in rows)
    assert checked.quarantined == ()
    stored = {row["symbol"]: row for row in checked.bars.to_pylist()}
    assert (stored["AAAA"]["open"], stored["AAAA"]["high"]) == (25.05, 25.04)
    assert [stored[f"VW{n}"]["vwap"] for n in range(4)] == [None] * 4
    assert stored["LESS"]["trade_count"] is None


def test_check_keeps_the_later_of_two_bars_of_one_session_and_reports_the_earlier() -> None:
    first, second = bar_rows("AAPL", [DAY])[0], bar_rows("AAPL", [DAY], close=101.0)[0]
    checked = check_bars(bar_table([first, second]))
    assert checked.bars["close"].to_pylist() == [101.0]
    assert [bar.reason for bar in checked.quarantined] == ["a later bar of the same session came with it"]


def test_check_collapses_a_repeated_bar_silently() -> None:
    row = bar_rows("AAPL", [DAY])[0]
    checked = check_bars(bar_table([row, row, row]))
    assert checked.bars.num_rows == 1
    assert checked.quarantined == ()


def test_check_never_lets_a_bad_later_bar_replace_a_good_one() -> None:
    good = bar_rows("AAPL", [DAY])[0]
    checked = check_bars(bar_table([good, good | {"close": -5.0}]))
    assert checked.bars["close"].to_pylist() == [100.0]
    assert len(checked.quarantined) == 1


@pytest.mark.parametrize(
    ("stamp", "session"),
    [
        (datetime(2025, 1, 2, 5, tzinfo=UTC), date(2025, 1, 2)),  # midnight in winter
        (datetime(2025, 7, 2, 4, tzinfo=UTC), date(2025, 7, 2)),  # midnight in summer
        (
            datetime(2025, 3, 10, 3, 59, 59, tzinfo=UTC),
            date(2025, 3, 9),
        ),  # a second before midnight, day after DST began
        (datetime(2025, 11, 3, 4, 59, 59, tzinfo=UTC), date(2025, 11, 2)),  # and after it ended
    ],
)
def test_check_dates_a_bar_by_new_york(stamp: datetime, session: date) -> None:
    checked = check_bars(bar_table([bar_rows("AAPL", [DAY])[0] | {"timestamp": stamp}]))
    assert checked.bars["date"].to_pylist() == [session]


def test_merge_never_replaces_a_final_bar_by_a_provisional_one() -> None:
    final = check_bars(bar_table(bar_rows("AAPL", [DAY]))).bars
    late = check_bars(bar_table(bar_rows("AAPL", [DAY], close=90.0, is_final=False))).bars
    merged = merge_bars(final, late)
    assert merged.bars.equals(final)
    assert not merged.changed


def test_merge_tells_finalised_from_restated() -> None:
    rows = bar_rows("A", [DAY], is_final=False) + bar_rows("B", [DAY]) + bar_rows("C", [DAY], is_final=False)
    stored = merge_bars(None, check_bars(bar_table(rows)).bars).bars
    news = bar_rows("A", [DAY], 101.0) + bar_rows("B", [DAY], 101.0) + bar_rows("C", [DAY])
    merged = merge_bars(stored, check_bars(bar_table(news)).bars)
    assert merged.changes == {"A": Changes(finalised=1), "B": Changes(restated=1), "C": Changes(finalised=1)}
    assert merged.bars["is_final"].to_pylist() == [True, True, True]


awkward = st.sampled_from(["AAPL", "BRK.B", "NULL", "NA", "NAN", "TRUE", "null", "Z"])
prices = st.floats(min_value=1e-4, max_value=1e6, allow_nan=False)


@st.composite
def batches(draw: st.DrawFn) -> list[list[dict[str, Any]]]:
    def row() -> dict[str, Any]:
        price = draw(prices)
        day = DAY + timedelta(days=draw(st.integers(0, 5)))
        made = bar_rows(draw(awkward), [day], is_final=draw(st.booleans()))[0]
        return made | {
            "open": price,
            "high": price,
            "low": price,
            "close": price,
            "vwap": None,
            "volume": draw(st.integers(0, 3)),
        }

    return [[row() for _ in range(draw(st.integers(0, 8)))] for _ in range(draw(st.integers(1, 4)))]


@settings(max_examples=60, deadline=None)
@given(batches())
def test_merging_batches_equals_a_plain_dictionary(groups: list[list[dict[str, Any]]]) -> None:
    """Any batches in any order equal a dictionary; the counts add up."""
    expected: dict[tuple[str, date], dict[str, Any]] = {}
    stored: pa.Table | None = None
    for group in groups:
        latest = {(row["symbol"], row["timestamp"].date()): row for row in group}
        added = 0
        for key, row in latest.items():
            old = expected.get(key)
            added += old is None
            if old is None or row["is_final"] or not old["is_final"]:
                expected[key] = row
        merged = merge_bars(stored, check_bars(bar_table(group)).bars)
        assert sum(change.added for change in merged.changes.values()) == added
        assert merged.changed == (
            (stored is None and merged.bars.num_rows > 0) or (stored is not None and not merged.bars.equals(stored))
        )
        stored = merged.bars
    assert stored is not None
    assert stored.schema.equals(BAR_SCHEMA)
    merged_rows = [
        {name: row[name] for name in (*VALUES, "is_final")} | {"key": (row["symbol"], row["date"])}
        for row in stored.to_pylist()
    ]
    assert merged_rows == [
        {name: expected[key][name] for name in (*VALUES, "is_final")} | {"key": key} for key in sorted(expected)
    ]
