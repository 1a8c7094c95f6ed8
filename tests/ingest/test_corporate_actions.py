"""Corporate actions at query time: adjusted prices that are right today, and right as of any past day."""

import json
import math
import os
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command_line import Ended, run
from conftest import MORNING, ROOT, bar_rows, bar_table
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from alchemiser_duck import CachedMarketDataAdapter, DataRefreshService, MarketDataStore, Settings
from alchemiser_duck import exchange_calendar as calendar
from alchemiser_duck.errors import BadParameter, UnknownSymbol
from alchemiser_duck.ingest import corporate_actions
from alchemiser_duck.ingest.corporate_actions import read_actions
from alchemiser_duck.ingest.source import AlpacaSource
from alchemiser_duck.ingest.verification import verify
from alchemiser_duck.lake.scan import Scan
from alchemiser_duck.query.catalogue import files_named_in, sql_root
from alchemiser_duck.query.session import DuckDBSession, Reading
from alchemiser_duck.sandbox import Sandbox
from alchemiser_duck.sandbox.alpaca_server import AlpacaServer

REAL = pq.read_table(ROOT / "alchemiser_duck" / "sandbox" / "data" / "real_bars.parquet")


def vendor(kind: str, day: str, **fields: Any) -> tuple[str, dict[str, Any]]:
    """A row as Alpaca sends it, and the list it comes in."""
    number = fields.pop("id", f"{kind}-{fields.get('symbol', fields.get('source_symbol'))}-{day}")
    return kind, {"id": number, "process_date": day, "ex_date": day, **fields}


def split(symbol: str, day: str, new: float, old: float = 1, **more: Any) -> tuple[str, dict[str, Any]]:
    return vendor("forward_splits" if new > old else "reverse_splits", day, symbol=symbol, new_rate=new, old_rate=old,
                  **more)  # fmt: skip


def dividend(symbol: str, day: str, rate: float, **more: Any) -> tuple[str, dict[str, Any]]:
    return vendor("cash_dividends", day, symbol=symbol, rate=rate, special=False, foreign=False, **more)


def new_lake(make_settings: Callable[..., Settings]) -> Settings:
    """A prefix of its own: each example of a property begins with nothing."""
    return make_settings(MARKET_DATA_BUCKET=f"{make_settings().bucket}/{uuid.uuid4().hex}")


def take_in(settings: Settings, rows: list[tuple[str, dict[str, Any]]], today: date, *, everything: bool = True) -> Any:
    lists: dict[str, list[Any]] = {}
    for kind, row in rows:
        lists.setdefault(kind, []).append(row)
    actions, malformed = read_actions(lists, MORNING)
    assert malformed == []
    return MarketDataStore(settings).actions.merge(actions, today, everything=everything)


DAYS = calendar.sessions(date(2024, 1, 2), date(2024, 3, 28))


def stored(settings: Settings, closes: dict[str, list[float]]) -> CachedMarketDataAdapter:
    rows = [
        bar_rows(symbol, [day], close)[0]
        for symbol, prices in closes.items()
        for day, close in zip(DAYS, prices, strict=False)
    ]
    MarketDataStore(settings).write_bars(bar_table(rows))
    return CachedMarketDataAdapter(settings, clock=lambda: datetime(2024, 4, 1, 8, tzinfo=UTC))


def closes(adapter: CachedMarketDataAdapter, symbol: str, adjustment: Any = "all") -> list[float]:
    return [row[0] for row in adapter.bars([symbol], adjustment=adjustment).select("close").fetchall()]


def test_adjusted_closes_follow_an_independent_vendors_for_thirteen_years(adapter: CachedMarketDataAdapter) -> None:
    """Within 0.5 %, both series set to one at the last bar; they jump against the raw prices on the same days."""
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
    """A 2:1 split and two dividends of 3 and 2 on one day: half of 100 is 50, less 5 is 0.9 of it."""
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
    """A regular and a special dividend of the same amount are two; whichever copy is dropped, the other counts."""
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
    """Between two days, adjusted histories differ by one factor: that of the actions in between."""
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
    """Whatever years bars, actions and the lens lie in, and whatever is between them."""
    con = duckdb.connect(":memory:")
    con.execute(f"set variable market_data = '{sql_root()}/empty_lake'")
    for file in files_named_in("bars bars_split"):
        con.execute(file.text)
    tables = {"bars_raw": [{"symbol": "A", "date": day, "close": 1.0, "volume": 720} for day in days]}
    tables["corporate_actions"] = [
        {"id": f"{number}", "symbol": "A", "ex_date": day, "price_factor": factor, "split_factor": factor**split}
        for number, (day, factor, split) in enumerate(actions)
    ]
    for name, rows in tables.items():
        stored = next((sql_root() / "empty_lake" / name.removesuffix("_raw")).rglob("*.parquet"))
        schema = pa.schema([field.with_nullable(True) for field in pq.read_schema(stored)])
        paths = []
        for year in {row["date"].year if "date" in row else 0 for row in rows} or {0}:
            path = tmp_path / "timeframe=1Day" / f"year={year}" / f"{name}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            of_year = [row for row in rows if "date" not in row or row["date"].year == year]
            pq.write_table(pa.Table.from_pylist(of_year, schema=schema), path)
            paths.append(str(path))
        con.execute(f"set variable {name} = {paths}")
    for name, day in (("since", since), ("as_of", as_of)):
        if day:
            con.execute(f"set variable {name} = '{day}'")
    shown = [day for day in sorted(days) if (not since or day >= since) and (not as_of or day <= as_of)]
    after = {day: [one for one in actions if one[0] > day and (not as_of or one[0] <= as_of)] for day in shown}
    for view, chosen in (("bars", (True, False)), ("bars_split", (True,))):
        got = con.execute(f"select date, close, volume from {view} order by date").fetchall()
        assert [row[0] for row in got] == shown
        for day, close, volume in got:
            assert close == pytest.approx(math.prod(f for _, f, split in after[day] if split in chosen), rel=1e-12)
            assert volume == round(720 / math.prod(f for _, f, split in after[day] if split))


def test_returns_of_adjusted_closes_are_total_returns(settings: Settings) -> None:
    """Holding through a split and two dividends, dividends reinvested at the close before the ex-date's value."""
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
    """Bars and actions in parts, in any order, before, on or after their day, equal everything at once."""
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
    """Random prices, a split, its reversal and dividends on random days."""
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
    """Bars that something else has written: nothing to adjust, and no error."""
    adapter = stored(settings, {"A": [100.0] * 10})
    assert closes(adapter, "A") == [100.0] * 10
    assert adapter.sql("from corporate_actions").fetchall() == []
    take_in(settings, [split("A", DAYS[5].isoformat(), 2)], DAYS[-1])
    assert closes(adapter, "A")[0] == 50.0  # seen at once


def test_malformed_rows_are_set_aside_with_their_reason() -> None:
    good = dividend("A", "2024-01-10", 0.5)[1]
    rows: list[Any] = [
        good,
        {**good, "id": "1", "ex_date": None},
        {key: value for key, value in good.items() if key != "rate"},
        {**good, "rate": -1},
        {**good, "rate": "many"},
        {**good, "ex_date": "10.01.2024"},
        "nonsense",
        {**good, "id": ""},
    ]
    actions, bad = read_actions({"cash_dividends": rows, "moon_landings": [good], "spin_offs": None}, MORNING)
    assert [action["id"] for action in actions] == [good["id"]]
    assert len(bad) == 8
    assert [bar.reason.rsplit(": ", 1)[1] for bar in bad][1:3] == ["rate is missing", "rate -1 is not above zero"]


def test_actions_are_looked_up_among_bars_by_a_sort(stored_settings: Settings) -> None:
    """DuckDB guesses that an Arrow table is small, and would compare each of 200,000 actions with every bar."""
    session = DuckDBSession(stored_settings)

    def explained(reading: Reading) -> str:
        with reading.copies(Scan()) as copies:
            connection = session.connection(names="action_factors", files=copies.files())
            connection.register("given", corporate_actions.ACTION_SCHEMA.empty_table())
            return str(connection.execute("explain from action_factors('given')").fetchall()[0][1])

    plan = session.reading("bars_raw", explained)
    assert "ASOF_JOIN" in plan
    assert "NESTED_LOOP_JOIN" not in plan


def test_suspects_are_named(settings: Settings) -> None:
    adapter = stored(
        settings,
        {"REVERSED": [100.0] * 5 + [50.0] * 5, "MISSING": [100.0] * 5 + [25.0] * 5, "TWICE": [100.0] * 10,
         "RICH": [100.0] * 5 + [60.0] * 5, "NEW": [100.0] * 10, "SOUND": [100.0] * 5 + [50.0] * 5},
    )  # fmt: skip
    day = DAYS[5].isoformat()
    take_in(
        settings,
        [split("REVERSED", day, 1, 2), dividend("TWICE", day, 1), dividend("TWICE", day, 1, id="zz copy"),
         dividend("RICH", day, 40), dividend("NEW", DAYS[0].isoformat(), 1), split("SOUND", day, 2)],
        DAYS[-1],
    )  # fmt: skip
    rows = adapter.sql("select symbol, suspicion from corporate_action_suspects order by symbol").fetchall()
    assert rows == [
        *(("MISSING", "missing split"), ("NEW", "no bar before"), ("REVERSED", "split ratio")),
        *(("RICH", "large dividend"), ("TWICE", "duplicate")),
    ]


def test_overrides_drop_and_replace_and_can_be_taken_back(settings: Settings) -> None:
    adapter = stored(settings, {"A": [100.0] * 5 + [50.0] * 5})
    reversed_split = split("A", DAYS[5].isoformat(), 1, 2, id="wrong")
    take_in(settings, [reversed_split], DAYS[-1])
    assert closes(adapter, "A")[0] == pytest.approx(200.0)
    actions = MarketDataStore(settings).actions
    actions.override("wrong", {"new_rate": 2, "old_rate": 1}, "the company's notice says 2 for 1", MORNING)
    assert closes(adapter, "A") == pytest.approx([50.0] * 10)
    take_in(settings, [reversed_split], DAYS[-1])  # the vendor says it again: the override stays
    assert closes(adapter, "A") == pytest.approx([50.0] * 10)
    row = adapter.sql("select id, override, override_reason from corporate_action_overrides").fetchall()
    assert row == [("wrong", "replace", "the company's notice says 2 for 1")]
    actions.override("wrong", None, "never happened", MORNING)
    assert closes(adapter, "A") == [100.0] * 5 + [50.0] * 5
    actions.restore("wrong")
    assert closes(adapter, "A")[0] == pytest.approx(200.0)
    for values, reason, message in (
        ({"rate": 3}, "x", "has no rate; it has ex_date, new_rate, old_rate, symbol"),
        ({"new_rate": 0}, "x", "not above zero"),
        (None, " ", "needs a reason"),
    ):
        with pytest.raises(BadParameter, match=message):
            actions.override("wrong", values, reason, MORNING)
    with pytest.raises(BadParameter, match="did you mean"):
        actions.restore("wrnog")


def test_a_refresh_brings_actions_and_says_what_is_new(alpaca: AlpacaServer, settings: Settings) -> None:
    service = DataRefreshService(settings)
    report = service.overnight(["AAPL", "IBM"], start=date(2010, 1, 4), now=MORNING)
    assert report.status == "ok"
    assert report.actions_added > 10
    assert report.actions_changed == 0
    again = service.overnight(["AAPL", "IBM"], start=date(2010, 1, 4), now=MORNING)
    assert (again.actions_added, again.actions_changed, again.new_suspects) == (0, 0, 0)
    late = dividend("IBM", (MORNING.date() - timedelta(days=1)).isoformat(), 1.0, id="late")[1]
    alpaca.data.actions["cash_dividends"].append(late)
    try:
        assert service.overnight(["IBM"], start=date(2024, 1, 2), now=MORNING).actions_added == 1
        late["rate"] = 2.0
        assert service.overnight(["IBM"], start=date(2024, 1, 2), now=MORNING).actions_changed == 1
    finally:
        alpaca.data.actions["cash_dividends"].remove(late)


def test_what_alpaca_cannot_tell_of_actions_never_costs_the_bars(alpaca: AlpacaServer, settings: Settings) -> None:
    alpaca.data.actions["cash_dividends"].append({"id": "broken", "symbol": "IBM", "process_date": "2024-06-03"})
    try:
        report = DataRefreshService(settings).overnight(["IBM"], start=date(2024, 1, 2), now=MORNING)
    finally:
        alpaca.data.actions["cash_dividends"].pop()
    assert report.changes.added > 300
    assert [bar.reason for bar in report.quarantined] == ["corporate action in cash_dividends: ex_date is missing"]


def test_what_became_of_a_symbol_is_visible(settings: Settings) -> None:
    adapter = stored(settings, {"FB": [100.0] * 5, "KEPT": [10.0] * 5})
    renamed = vendor("name_changes", DAYS[3].isoformat(), old_symbol="FB", new_symbol="META")
    merged = vendor("stock_mergers", DAYS[4].isoformat(), acquiree_symbol="FB", acquirer_symbol="OTHER",
                    effective_date=DAYS[4].isoformat())  # fmt: skip
    take_in(settings, [renamed, merged], DAYS[-1])
    rows = adapter.sql("select symbol, ended_on, ended_by, successor from symbols order by symbol").fetchall()
    assert rows == [("FB", DAYS[4], "stock_merger", "OTHER"), ("KEPT", None, None, None)]
    rows = adapter.as_of(DAYS[3]).sql("select ended_by, successor from symbols where symbol = 'FB'").fetchall()
    assert rows == [("name_change", "META")]


def test_verification_finds_alpacas_own_numbers_near(stored_settings: Settings, box: Sandbox) -> None:
    """Cents and the other dividend formula explain every difference from the stand-in's adjustment."""
    session, source = DuckDBSession(stored_settings), AlpacaSource(box.settings())
    for symbol in ("AAPL", "IBM"):
        for row in verify(session, source, symbol).to_pylist():
            assert row["sessions"] == 3270
            assert row["largest_difference"] <= row["expected_at_most"] < 0.03
            assert (row["largest_difference"] > 0) == (symbol == "AAPL" or row["adjustment"] == "all")
    with pytest.raises(UnknownSymbol, match=r"no bar of 'APPL' is stored; did you mean AAPL.*refresh --symbols APPL"):
        verify(session, source, "APPL")


def command(settings: Settings, box: Sandbox, *arguments: str) -> Ended:
    own = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "MARKET_DATA_BUCKET": settings.market_data_bucket}
    return run(box.environment | own, "actions", *arguments)


def test_the_commands_list_verify_override_and_restore(settings: Settings, box: Sandbox) -> None:
    DataRefreshService(settings).overnight(["AAPL"], start=date(2024, 1, 2), now=MORNING)
    listed = json.loads(command(settings, box, "AAPL", "--format", "json").stdout)
    assert [row["type"] for row in listed] == ["cash_dividend"] * 3
    assert all(0.98 < row["price_factor"] < 1 for row in listed)
    chosen = listed[-1]["id"]
    assert command(settings, box, "override", chosen, "--set", "rate=5", "--reason", "misprint").returncode == 0
    changed = json.loads(command(settings, box, "list", "AAPL", "--format", "json").stdout)[-1]
    assert (changed["cash_amount"], changed["override"]) == (5, "replace")
    assert changed["price_factor"] < listed[-1]["price_factor"]
    wrong = command(settings, box, "override", chosen, "--reason", "neither")
    assert (wrong.returncode, "either --set" in wrong.stderr) == (2, True)
    assert command(settings, box, "restore", chosen).returncode == 0
    assert json.loads(command(settings, box, "AAPL", "--format", "json").stdout) == listed
    assert command(settings, box, "suspects").returncode == 0
    checked = command(settings, box, "verify", "AAPL", "--format", "json")
    assert checked.returncode == 0, checked.stderr
    assert [row["adjustment"] for row in json.loads(checked.stdout)] == ["split", "all"]
