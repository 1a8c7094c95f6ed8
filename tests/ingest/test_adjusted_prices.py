"""Adjusted prices are right today, and right as of any past day."""

import math
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from action_cases import DAYS, closes, dividend, new_lake, split, stored, take_in, vendor
from conftest import MORNING, ROOT, bar_rows, bar_table
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from alchemiser_duck import CachedMarketDataAdapter, MarketDataStore, Settings
from alchemiser_duck.query.catalogue import files_named_in, sql_root

pytestmark = pytest.mark.usefixtures("both_ways")

REAL = pq.read_table(ROOT / "alchemiser_duck" / "sandbox" / "data" / "real_bars.parquet")


def test_adjusted_closes_follow_an_independent_vendors_for_thirteen_years(adapter: CachedMarketDataAdapter) -> None:
    """Both series end at one and differ by 0.5 % at most.

    They jump against the raw prices on the same days.
    """
    for symbol in ("AAPL", "IBM"):
        theirs = np.array([row["adj_close"] for row in REAL.to_pylist() if row["symbol"] == symbol])
        ours, raw = np.array(closes(adapter, symbol)), np.array(closes(adapter, symbol, "raw"))
        assert len(ours) == len(theirs) == 3270
        assert np.abs((ours / ours[-1]) / (theirs / theirs[-1]) - 1).max() < 0.005
        ex_dates = adapter.sql(
            "select ex_date from corporate_actions where symbol = $1 and price_factor is not null", [symbol]
        ).fetchall()
        dates = [row[0] for row in adapter.bars([symbol]).select("date").fetchall()]
        step = (ours / raw)[1:] / (ours / raw)[:-1]
        assert {dates[i + 1] for i in np.flatnonzero(np.abs(step - 1) > 1e-9)} == {day for (day,) in ex_dates}
        assert len(ex_dates) == (5 if symbol == "AAPL" else 52)


def test_split_adjustment_leaves_dividends_out_and_moves_volume(adapter: CachedMarketDataAdapter) -> None:
    raw = adapter.bars(["AAPL"], adjustment="raw").fetchall()
    halves = adapter.bars(["AAPL"], adjustment="split").fetchall()
    full = adapter.bars(["AAPL"]).fetchall()
    assert halves[0][6] == pytest.approx(raw[0][6] / 4, rel=1e-12)  # two splits, 2:1 each
    assert halves[0][8] == full[0][8] == pytest.approx(raw[0][8] * 4, abs=1)
    assert halves[-1] == raw[-1]
    dividends = adapter.bars(["IBM"], adjustment="split").fetchall()
    assert dividends == adapter.bars(["IBM"], adjustment="raw").fetchall()


def test_factors_of_one_day_add_up(settings: Settings) -> None:
    """A 2:1 split leaves 50 of 100; dividends of 5 make 0.9."""
    adapter = stored(settings, {"A": [100.0] * 10 + [45.0] * 10})
    day = DAYS[10].isoformat()
    take_in(settings, [split("A", day, 2), dividend("A", day, 3), dividend("A", day, 2, id="second")], DAYS[-1])
    assert closes(adapter, "A") == pytest.approx([45.0] * 20, rel=1e-12)
    assert closes(adapter, "A", "split") == pytest.approx([50.0] * 10 + [45.0] * 10, rel=1e-12)


def test_a_spin_off_is_worth_its_first_close_and_flagged_without_one(settings: Settings) -> None:
    adapter = stored(settings, {"PARENT": [100.0] * 5 + [80.0] * 5, "ORPHAN": [100.0] * 10})
    child = [bar_rows("CHILD", [day], 40.0)[0] for day in DAYS[5:10]]
    MarketDataStore(settings).write_bars(bar_table(child))
    day = DAYS[5].isoformat()
    terms = {"new_rate": 1, "source_rate": 2}
    take_in(
        settings,
        [
            vendor("spin_offs", day, source_symbol="PARENT", new_symbol="CHILD", **terms),
            vendor("spin_offs", day, source_symbol="ORPHAN", new_symbol="NOWHERE", **terms),
        ],
        DAYS[-1],
    )
    assert closes(adapter, "PARENT") == pytest.approx([80.0] * 10)
    assert closes(adapter, "ORPHAN") == [100.0] * 10
    suspects = adapter.sql("select symbol, suspicion from corporate_action_suspects").fetchall()
    assert suspects == [("ORPHAN", "not derived")]


def test_the_same_action_under_two_ids_is_applied_once(settings: Settings) -> None:
    """Whichever copy is dropped, the other counts; a special one is another."""
    adapter = stored(settings, {"A": [100.0] * 10})
    day = DAYS[5].isoformat()
    rows = [dividend("A", day, 5, id="a"), dividend("A", day, 5, id="b"), split("A", DAYS[7].isoformat(), 2, id="c"),
            split("A", DAYS[7].isoformat(), 2, id="d")]  # fmt: skip
    take_in(settings, rows, DAYS[-1])
    assert closes(adapter, "A")[0] == pytest.approx(95 / 2)
    suspects = adapter.sql("select id from corporate_action_suspects where suspicion = 'duplicate' order by id")
    assert suspects.fetchall() == [("b",), ("d",)]
    MarketDataStore(settings).actions.override("a", None, "sent twice", MORNING)
    assert closes(adapter, "A")[0] == pytest.approx(95 / 2)
    special = dividend("A", day, 5, id="e")
    special[1]["special"] = True
    take_in(settings, [special], DAYS[-1])
    assert closes(adapter, "A")[0] == pytest.approx(90 / 2)


def test_a_dividend_in_another_currency_is_flagged_not_applied(settings: Settings) -> None:
    adapter = stored(settings, {"ADR": [100.0] * 10})
    take_in(settings, [dividend("ADR", DAYS[5].isoformat(), 2.5, currency="EUR")], DAYS[-1])
    assert closes(adapter, "ADR") == [100.0] * 10
    suspects = adapter.sql("select symbol, suspicion from corporate_action_suspects").fetchall()
    assert suspects == [("ADR", "not derived")]


def test_an_announced_action_has_no_effect_before_its_day(settings: Settings) -> None:
    adapter = stored(settings, {"A": [100.0] * 10})
    coming = DAYS[10]
    announced = [split("A", coming.isoformat(), 4), dividend("A", coming.isoformat(), 1)]
    take_in(settings, announced, DAYS[9])
    assert closes(adapter, "A") == [100.0] * 10
    MarketDataStore(settings).write_bars(bar_table(bar_rows("A", [coming], 24.0)))
    take_in(settings, announced, coming, everything=False)  # the run after that day's close; the vendor repeats itself
    assert closes(adapter, "A") == pytest.approx([24.0] * 11)
    assert closes(adapter.as_of(DAYS[9]), "A") == [100.0] * 10


def test_as_of_shows_prices_as_they_were_adjusted_then(adapter: CachedMarketDataAdapter) -> None:
    """Adjusted histories of two days differ by the factor between them."""
    for early, late, symbol in (
        (date(2014, 3, 3), date(2019, 8, 15), "IBM"),
        (date(2013, 1, 2), MORNING.date(), "AAPL"),
    ):
        then, now = closes(adapter.as_of(early), symbol), closes(adapter.as_of(late), symbol)
        ratio = np.array(now[: len(then)]) / np.array(then)
        assert ratio == pytest.approx(np.full(len(then), ratio[0]), rel=1e-12)
        assert then[-1] == closes(adapter.as_of(early), symbol, "raw")[-1]


def test_since_does_not_lose_later_actions(adapter: CachedMarketDataAdapter) -> None:
    whole = {row[2]: row for row in adapter.bars(["IBM"]).fetchall()}
    part = adapter.bars(["IBM"], start="2020-01-02").fetchall()
    assert part
    assert all(row == whole[row[2]] for row in part)


ANY_DAYS = st.dates(date(1996, 1, 1), date(2004, 12, 31)) | st.sampled_from(
    [date(year, month, day) for year in (1999, 2000, 2001) for month, day in ((1, 1), (1, 2), (12, 31))]
)


@hypothesis_settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    days=st.lists(ANY_DAYS, min_size=1, max_size=12, unique=True),
    actions=st.lists(st.tuples(ANY_DAYS, st.sampled_from([0.5, 0.9, 2.0]), st.booleans()), max_size=8),
    since=st.none() | ANY_DAYS,
    as_of=st.none() | ANY_DAYS,
)
def test_a_bar_is_multiplied_by_every_factor_after_it(
    tmp_path: Path, days: list[date], actions: list[tuple[date, float, bool]], since: date | None, as_of: date | None
) -> None:
    """It holds whatever years bars, actions and the lens lie in."""
    con = duckdb.connect(":memory:")
    con.execute(f"set variable market_data = '{sql_root()}/empty_lake'")
    for file in files_named_in("bars bars_split"):
        con.execute(file.text)
    tables = {"bars_raw": [{"symbol": "A", "date": day, "close": 1.0, "volume": 720} for day in days]}
    tables["corporate_actions"] = [
        {
            "id": f"{number}",
            "symbol": "A",
            "applies_to": "A",
            "ex_date": day,
            "price_factor": factor,
            "split_factor": factor**split,
        }
        for number, (day, factor, split) in enumerate(actions)
    ]
    for name, table in tables.items():
        stored = next((sql_root() / "empty_lake" / name.removesuffix("_raw")).rglob("*.parquet"))
        schema = pa.schema([field.with_nullable(True) for field in pq.read_schema(stored)])
        paths = []
        for year in {row["date"].year if "date" in row else 0 for row in table} or {0}:
            path = tmp_path / "timeframe=1Day" / f"year={year}" / f"{name}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            of_year = [row for row in table if "date" not in row or row["date"].year == year]
            pq.write_table(pa.Table.from_pylist(of_year, schema=schema), path)
            paths.append(str(path))
        con.execute(f"set variable {name} = {paths}")
    for name, day in (("since", since), ("as_of", as_of)):
        if day:
            con.execute(f"set variable {name} = '{day}'")
    shown = [day for day in sorted(days) if (not since or day >= since) and (not as_of or day <= as_of)]
    after = {
        day: [action for action in actions if action[0] > day and (not as_of or action[0] <= as_of)] for day in shown
    }
    for view, chosen in (("bars", (True, False)), ("bars_split", (True,))):
        rows = con.execute(f"select date, close, volume from {view} order by date").fetchall()
        assert [row[0] for row in rows] == shown
        for day, close, volume in rows:
            assert close == pytest.approx(math.prod(f for _, f, split in after[day] if split in chosen), rel=1e-12)
            assert volume == pytest.approx(720 / math.prod(f for _, f, split in after[day] if split), rel=1e-12)


def test_returns_of_adjusted_closes_are_total_returns(settings: Settings) -> None:
    """Hold through a split and two dividends, reinvested before the ex-date."""
    random = np.random.default_rng(5)
    raw = (50 * np.exp(np.cumsum(random.normal(0, 0.02, 40)))).tolist()
    raw[20:] = [price / 3 for price in raw[20:]]
    adapter = stored(settings, {"A": raw})
    take_in(
        settings,
        [dividend("A", DAYS[8].isoformat(), 0.7), split("A", DAYS[20].isoformat(), 3),
         dividend("A", DAYS[30].isoformat(), 0.4)],
        DAYS[-1],
    )  # fmt: skip
    paid, shares = {8: 0.7, 30: 0.4}, {20: 3.0}
    expected = [(raw[i] * shares.get(i, 1)) / (raw[i - 1] - paid.get(i, 0)) - 1 for i in range(1, 40)]
    ours = np.array(closes(adapter, "A"))
    assert ours[1:] / ours[:-1] - 1 == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_a_reverse_split_of_a_split_cancels(settings: Settings) -> None:
    adapter = stored(settings, {"A": [90.0] * 5 + [30.0] * 5 + [90.0] * 5})
    take_in(settings, [split("A", DAYS[5].isoformat(), 3), split("A", DAYS[10].isoformat(), 1, 3)], DAYS[-1])
    assert closes(adapter, "A") == pytest.approx([90.0] * 15, rel=1e-12)


def test_a_restated_bar_restates_its_factor(settings: Settings) -> None:
    adapter = stored(settings, {"A": [100.0] * 10})
    day = DAYS[5].isoformat()
    take_in(settings, [dividend("A", day, 10)], DAYS[-1])
    assert closes(adapter, "A")[0] == pytest.approx(90.0)
    MarketDataStore(settings).write_bars(bar_table(bar_rows("A", [DAYS[4]], 50.0)))
    take_in(settings, [], DAYS[-1])
    assert closes(adapter, "A")[0] == pytest.approx(80.0)


@hypothesis_settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_order_and_any_split_of_days_gives_the_same(make_settings: Callable[..., Settings], data: Any) -> None:
    """Bars and actions in parts, in any order, equal everything at once."""
    prices = data.draw(st.lists(st.floats(20, 200), min_size=12, max_size=12))
    days = data.draw(st.lists(st.integers(1, 11), min_size=3, max_size=3))
    rows = [split("A", DAYS[days[0]].isoformat(), 2), dividend("A", DAYS[days[1]].isoformat(), 1.5),
            dividend("A", DAYS[days[2]].isoformat(), 2.5, id="another")]  # fmt: skip
    at_once, in_parts = new_lake(make_settings), new_lake(make_settings)
    expected = stored(at_once, {"A": prices})
    take_in(at_once, rows, DAYS[-1])
    pieces = [("bar", i) for i in range(12)] + [("action", i) for i in range(3)]
    store = MarketDataStore(in_parts)
    for kind, i in data.draw(st.permutations(pieces)):
        if kind == "bar":
            store.write_bars(bar_table(bar_rows("A", [DAYS[i]], prices[i])))
        else:
            take_in(in_parts, [rows[i]], DAYS[-1], everything=False)
    take_in(in_parts, [], DAYS[-1])
    adapter = CachedMarketDataAdapter(in_parts, clock=lambda: datetime(2024, 4, 1, 8, tzinfo=UTC))
    assert adapter.bars(["A"]).fetchall() == expected.bars(["A"]).fetchall()


@hypothesis_settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_returns_are_total_returns_and_the_past_differs_by_one_factor(
    make_settings: Callable[..., Settings], data: Any
) -> None:
    """Prices, a split, its reversal and dividends are random."""
    raw = data.draw(st.lists(st.floats(20, 200), min_size=15, max_size=15))
    days = data.draw(st.lists(st.integers(1, 14), min_size=4, max_size=4, unique=True))
    ratio, rate = data.draw(st.sampled_from([2, 3, 10, 1.5])), data.draw(st.floats(0.01, 1.9))
    settings = new_lake(make_settings)
    adapter = stored(settings, {"A": raw})
    rows = [split("A", DAYS[days[0]].isoformat(), ratio), split("A", DAYS[days[1]].isoformat(), 1, ratio),
            dividend("A", DAYS[days[2]].isoformat(), rate), dividend("A", DAYS[days[3]].isoformat(), rate)]  # fmt: skip
    take_in(settings, rows, DAYS[-1])
    shares, paid = {days[0]: ratio, days[1]: 1 / ratio}, {days[2]: rate, days[3]: rate}
    expected = [raw[i] * shares.get(i, 1) / (raw[i - 1] - paid.get(i, 0)) for i in range(1, 15)]
    now = np.array(closes(adapter, "A"))
    assert now[1:] / now[:-1] == pytest.approx(expected, rel=1e-9)
    assert closes(adapter, "A", "split")[: min(days[:2])] == pytest.approx(raw[: min(days[:2])], rel=1e-12)  # cancelled
    day = data.draw(st.integers(0, 13))
    then = np.array(closes(adapter.as_of(DAYS[day]), "A"))
    assert len(then) == day + 1
    assert then[-1] == raw[day]
    assert now[: day + 1] / then == pytest.approx(np.full(day + 1, now[day] / then[-1]), rel=1e-9)


def test_a_lake_without_actions_reads_as_traded(settings: Settings) -> None:
    """Bars of another writer have nothing to adjust, and no error."""
    adapter = stored(settings, {"A": [100.0] * 10})
    assert closes(adapter, "A") == [100.0] * 10
    assert adapter.sql("from corporate_actions").fetchall() == []
    take_in(settings, [split("A", DAYS[5].isoformat(), 2)], DAYS[-1])
    assert closes(adapter, "A")[0] == 50.0  # seen at once
