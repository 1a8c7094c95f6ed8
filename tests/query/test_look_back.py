"""Look-backs are inferred tightly, and no more bars are read."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pytest
from conftest import MORNING
from sql_file_cases import OVER, SOUND, file, macro, of_bars

from alchemiser_duck import CachedMarketDataAdapter, Settings
from alchemiser_duck.errors import BadParameter
from alchemiser_duck.query.look_back import infer_look_back


def test_look_back_is_seen_through_the_layers_functions() -> None:
    """exponential_average and the like have windows inside: their headers say how far they reach."""
    numbered = (
        f"with numbered as (select symbol, timestamp, close, row_number() {OVER}) as bar from query_table(source)"
    )
    weighted = f"{numbered}), weighted as (select *, ema_weights(bar, n) as weights from numbered)"
    smoothed = macro(
        f"{weighted} select symbol, timestamp, exponential_average(close, bar, weights, n + 1) as mine from weighted"
    )
    assert infer_look_back(file(smoothed)) is None  # row_number() counts from the first bar on
    lagged = smoothed.replace(f"row_number() {OVER}) as bar", "1 as bar")
    assert infer_look_back(file(lagged)) == "EMA_LOOK_BACK((n + 1))"
    endless = lagged.replace("exponential_average(close, bar, weights, n + 1)", "decayed_sum(close, weights, 0.5)")
    assert infer_look_back(file(endless)) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (SOUND["a column"], {5: 0}),
        (SOUND["trailing frame"], {5: 4, 20: 19}),
        (SOUND["frame that ends earlier"], {5: 5}),
        (SOUND["lag"], {5: 5, 60: 60}),
        (SOUND["named window"], {5: 5}),
        (SOUND["nested"], {5: 5, 20: 20}),
        (SOUND["cross-section"], {5: 0}),
        (SOUND["bounds by error()"], {5: 0}),
        (of_bars(f"lag(close, n) {OVER})", "where volume > 0"), {5: 5}),  # as many rows come out as go in
        (
            macro(
                f"with traded as (select symbol, timestamp, lag(close, n) {OVER}) as old from bars where volume > 0) "
                "select symbol, timestamp, old as mine from bars left join traded using (symbol, timestamp)"
            ),
            None,  # rows are missing below the window
        ),
        (SOUND["running frame"], None),
        (SOUND["another indicator"], None),
    ],
)
def test_look_back_is_inferred_from_frames_and_lags(text: str, expected: dict[int, int] | None) -> None:
    look_back = infer_look_back(file(text))
    if expected is None:
        assert look_back is None
        return
    for n, bars in expected.items():
        assert duckdb.sql(f"select {look_back} from (select {n} as n)").fetchall()[0] == (bars,)


@pytest.mark.parametrize("name", ["trailing frame", "frame that ends earlier", "lag", "nested"])
def test_an_inferred_look_back_is_tight(name: str) -> None:
    """So many bars give a row's value; one bar less changes it."""
    con = duckdb.connect(":memory:")
    prices = np.random.default_rng(5).uniform(50, 60, 40).tolist()
    rows = [(datetime(2025, 1, 1, 5, tzinfo=UTC) + timedelta(days=i), price) for i, price in enumerate(prices)]
    con.execute("create table bars (symbol varchar, timestamp timestamptz, close double, high double)")
    con.executemany("insert into bars values ('X', $1, $2, $2 + (epoch($1) % 7))", rows)
    con.execute(SOUND[name])
    look_back = con.execute(f"select {infer_look_back(file(SOUND[name]))} from (select 5 as n)").fetchall()[0]
    assert look_back
    last = "select mine from mine(5, source := '{}') order by timestamp desc limit 1"
    whole = con.execute(last.format("bars")).fetchall()[0]
    for bars, same in ((look_back[0] + 1, True), (look_back[0], False)):
        con.execute(f"create or replace table tail as from bars order by timestamp desc limit {bars}")
        got = con.execute(last.format("tail")).fetchall()[0]
        assert whole
        assert got
        assert (got[0] == pytest.approx(whole[0], rel=1e-12) if got[0] is not None else False) == same


def test_a_number_of_bars_is_never_negative(stored_settings: Settings, tmp_path: Path) -> None:
    """lag(close, n) with n = -5 would see the future."""
    (tmp_path / "mine.sql").write_text(SOUND["lag"])
    adapter = CachedMarketDataAdapter(stored_settings.model_copy(update={"sql_dir": tmp_path}), clock=lambda: MORNING)
    with pytest.raises(BadParameter, match="mine: n is a number of bars, got -5"):
        adapter.indicator("mine", ["IBM"], n=-5)


def test_a_user_s_indicator_reads_only_its_inferred_warm_up(stored_settings: Settings, tmp_path: Path) -> None:
    """The same values from any start, without a look-back in the header."""
    (tmp_path / "mine.sql").write_text(SOUND["nested"])
    adapter = CachedMarketDataAdapter(stored_settings.model_copy(update={"sql_dir": tmp_path}), clock=lambda: MORNING)
    whole = {row[1]: row[2] for row in adapter.indicator("mine", ["IBM"], n=20).fetchall()}
    part = adapter.indicator("mine", ["IBM"], start="2025-06-02", n=20).fetchall()
    assert len(part) == 30
    for _, timestamp, value in part:
        assert value == pytest.approx(whole[timestamp], rel=1e-10)
