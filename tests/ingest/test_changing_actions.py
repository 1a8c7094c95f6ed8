"""Actions that change: withdrawn, corrected, moved, contradicting; suspects, and how each is settled."""

import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from action_cases import DAYS, closes, dividend, split, stored, vendor
from conftest import MORNING, bar_rows, bar_table
from hypothesis import HealthCheck, given
from hypothesis import settings as example_settings
from hypothesis import strategies as st

from alchemiser_duck import (
    CachedMarketDataAdapter,
    DataRefreshService,
    MarketDataStore,
    Settings,
    SuspectPricesWarning,
)
from alchemiser_duck.errors import AlpacaUnavailable, BadParameter, SuspectPrices
from alchemiser_duck.ingest.corporate_actions import RULE, Answer, read_actions
from alchemiser_duck.ingest.source import AlpacaSource
from alchemiser_duck.sandbox import AlpacaServer

Rows = list[tuple[str, dict[str, Any]]]
FIRST, LAST = date(2023, 12, 1), date(2024, 12, 31)


def answer(settings: Settings, rows: Rows, symbols: str = "AAPL", *, announced: Rows = ()) -> Any:  # type: ignore[assignment]
    """Take in a complete answer of the vendor's for these symbols."""
    parts = []
    for part, is_announced in ((rows, False), (announced, True)):
        lists: dict[str, list[Any]] = {}
        for kind, row in part:
            lists.setdefault(kind, []).append(row)
        parts += read_actions(lists, MORNING, announced=is_announced)[0]
    ids = frozenset(row["id"] for _, row in (*rows, *announced))
    whole = Answer(frozenset(symbols.split()), FIRST, LAST, ids, frozenset(symbols.split()), MORNING)
    store = MarketDataStore(settings).actions
    merged = store.merge(parts, DAYS[-1], everything=True, answer=whole)
    store.note_suspects()
    return merged


def statuses(adapter: CachedMarketDataAdapter) -> dict[str, str]:
    return dict(adapter.sql("select id, status from corporate_actions").fetchall())


def suspicions(adapter: CachedMarketDataAdapter) -> list[tuple[str, date, str]]:
    rows = adapter.sql("select symbol, date, suspicion from corporate_action_suspects order by date, suspicion")
    return rows.fetchall()  # type: ignore[no-any-return]


FLAT = [100.0] * 30
SPLIT = [300.0] * 10 + [100.0] * 20


def test_what_a_complete_answer_lacks_is_withdrawn_and_comes_back(settings: Settings) -> None:
    adapter = stored(settings, {"AAPL": FLAT, "IBM": FLAT})
    cancelled, other = split("AAPL", str(DAYS[10]), 25), split("IBM", str(DAYS[10]), 2)
    answer(settings, [cancelled, other], "AAPL IBM")
    assert closes(adapter, "AAPL")[0] == 4
    merged = answer(settings, [], "AAPL")
    assert merged.withdrawn == 1
    assert statuses(adapter) == {cancelled[1]["id"]: "withdrawn", other[1]["id"]: "applied"}
    assert adapter.sql("select withdrawn_at from corporate_actions where symbol = 'AAPL'").fetchall() == [(MORNING,)]
    assert closes(adapter, "AAPL")[0] == 100
    answer(settings, [cancelled], "AAPL")
    assert closes(adapter, "AAPL")[0] == 4


def test_an_answer_that_lacks_nearly_everything_is_not_believed(settings: Settings) -> None:
    adapter = stored(settings, {"AAPL": FLAT})
    many = [dividend("AAPL", str(day), 0.1) for day in DAYS[1:20]]
    answer(settings, many)
    with pytest.raises(AlpacaUnavailable, match="lacks 18 of the known corporate actions and holds 1"):
        answer(settings, many[:1])
    assert set(statuses(adapter).values()) == {"applied"}


def test_a_correction_under_a_new_id_replaces(settings: Settings) -> None:
    adapter = stored(settings, {"AAPL": FLAT})
    wrong = dividend("AAPL", str(DAYS[10]), 4.6, id="b")
    right = dividend("AAPL", str(DAYS[10]), 4.85, id="a")
    for rows in ([wrong], [right], [wrong, right]):
        answer(settings, rows)
        assert closes(adapter, "AAPL")[0] == pytest.approx(100 - rows[-1][1]["rate"])
    assert statuses(adapter) == {"a": "applied", "b": "superseded"}
    assert suspicions(adapter) == [("AAPL", DAYS[10], "conflict")]


def test_different_dividends_of_a_day_add_up(settings: Settings) -> None:
    adapter = stored(settings, {"AAPL": FLAT})
    special = dividend("AAPL", str(DAYS[10]), 4.7, id="c")[1] | {"special": True}
    answer(settings, [dividend("AAPL", str(DAYS[10]), 4.6), ("cash_dividends", special)])
    assert closes(adapter, "AAPL")[0] == pytest.approx(100 - 9.3)
    assert suspicions(adapter) == []


@pytest.mark.parametrize("first", [9, 10, 11])
@pytest.mark.parametrize("second", [10, 12])
def test_a_moved_split_counts_once_on_the_day_that_prices_moved(settings: Settings, first: int, second: int) -> None:
    adapter = stored(settings, {"AAPL": SPLIT})
    rows = [split("AAPL", str(DAYS[day]), 3, id=f"{day}") for day in dict.fromkeys((first, second))]
    answer(settings, rows)
    factors = adapter.sql("select price_factor from corporate_actions where price_factor is not null").fetchall()
    assert factors == [(1 / 3,)]
    if 10 in (first, second):
        assert closes(adapter, "AAPL") == [100] * 30


def test_two_different_splits_of_a_day_are_a_conflict_and_one_counts(settings: Settings) -> None:
    adapter = stored(settings, {"AAPL": [1500.0] * 10 + [100.0] * 20})
    answer(settings, [split("AAPL", str(DAYS[10]), 14, id="a"), split("AAPL", str(DAYS[10]), 15, id="b")])
    assert statuses(adapter) == {"a": "superseded", "b": "applied"}
    assert closes(adapter, "AAPL")[0] == pytest.approx(100)
    assert suspicions(adapter) == [("AAPL", DAYS[10], "conflict")]


@pytest.mark.parametrize("ids", [("a", "b"), ("b", "a")])
def test_an_absurd_dividend_leaves_the_others_of_its_day(settings: Settings, ids: tuple[str, str]) -> None:
    adapter = stored(settings, {"AAPL": FLAT})
    day = str(DAYS[10])
    answer(settings, [dividend("AAPL", day, 500.0, id=ids[0]), dividend("AAPL", day, 1.0, id=ids[1])])
    assert statuses(adapter) == {ids[0]: "absurd", ids[1]: "applied"}
    assert closes(adapter, "AAPL")[0] == pytest.approx(99)
    assert suspicions(adapter) == [("AAPL", DAYS[10], "absurd dividend")]


def test_what_is_announced_is_kept_apart_and_asked_about_when_its_day_has_come(settings: Settings) -> None:
    adapter = stored(settings, {"AAPL": SPLIT})
    announced = split("AAPL", str(DAYS[10]), 3)
    del announced[1]["old_rate"]
    answer(settings, [], announced=[announced])
    assert statuses(adapter) == {announced[1]["id"]: "announced"}
    assert suspicions(adapter) == [("AAPL", DAYS[10], "announced"), ("AAPL", DAYS[10], "missing split")]
    complete = split("AAPL", str(DAYS[10]), 3)
    answer(settings, [complete])
    assert statuses(adapter) == {announced[1]["id"]: "applied"}
    assert suspicions(adapter) == []


@pytest.mark.parametrize(
    ("move", "stated", "suspicion"),
    [
        (0.8, ("reverse_splits", {"new_rate": 1000, "old_rate": 1238}), "split ratio"),  # DOV 2018-05-09
        (1.0, ("forward_splits", {"new_rate": 8, "old_rate": 7}), "split ratio"),  # a spin-off filed as 8:7
        (0.2, ("forward_splits", {"new_rate": 4, "old_rate": 1}), "split ratio"),
        (2 / 3, None, "missing split"),
        (0.1, None, "missing split"),
        (10.0, None, "missing split"),
        (0.5, ("cash_dividends", {"rate": 0.5, "special": False, "foreign": False}), "missing split"),
        (0.74, None, "large move"),
        (0.6, None, "large move"),
        (0.9, None, None),
        (0.5, ("forward_splits", {"new_rate": 2, "old_rate": 1}), None),
        (0.52, ("forward_splits", {"new_rate": 2, "old_rate": 1}), None),
        (0.94, ("stock_dividends", {"rate": 0.05}), None),
        (0.98, ("cash_dividends", {"rate": 2.0, "special": False, "foreign": False}), None),
    ],
)
@pytest.mark.parametrize("day", [10, 29])
def test_suspects_see_what_matters(
    settings: Settings, move: float, stated: tuple[str, dict[str, Any]] | None, suspicion: str | None, day: int
) -> None:
    """On the evening of the day as well: the newest bar is enough."""
    adapter = stored_moves(settings, move, day)
    answer(settings, [vendor(stated[0], str(DAYS[day]), symbol="AAPL", **stated[1])] if stated else [])
    assert suspicions(adapter) == ([("AAPL", DAYS[day], suspicion)] if suspicion else [])


def stored_moves(settings: Settings, move: float, day: int) -> CachedMarketDataAdapter:
    return stored(settings, {"AAPL": [100.0] * day + [100.0 * move] * (30 - day)})


def test_each_kind_of_suspect_can_be_settled_and_taken_back(settings: Settings) -> None:
    adapter = stored_moves(settings, 0.5, 10)
    answer(settings, [])
    store, day = MarketDataStore(settings).actions, DAYS[10]
    open_one = [("AAPL", day, "missing split")]
    findings = "select finding from findings where finding = 'missing split'"
    assert suspicions(adapter) == open_one
    assert adapter.sql(findings).fetchall() == [("missing split",)]
    store.accept("AAPL", day, "earnings", MORNING)
    assert suspicions(adapter) == []
    assert adapter.sql(findings).fetchall() == []
    store.restore(f"user-accepted_move-AAPL-{day}")
    assert suspicions(adapter) == open_one
    store.add("forward_split", "AAPL", day, {"new_rate": 2, "old_rate": 1}, "says the company", MORNING)
    assert suspicions(adapter) == []
    assert closes(adapter, "AAPL") == [50] * 30
    answer(settings, [])  # the vendor's silence withdraws nothing of a person's
    assert closes(adapter, "AAPL") == [50] * 30
    sent = split("AAPL", str(day), 2)
    answer(settings, [sent])
    assert closes(adapter, "AAPL") == [50] * 30
    assert statuses(adapter)[sent[1]["id"]] == "applied"
    assert sorted(statuses(adapter).values()) == ["applied", "duplicate"]


def test_an_acceptance_holds_when_the_vendor_sends_the_action_again(settings: Settings) -> None:
    adapter = stored_moves(settings, 0.2, 10)
    sent = split("AAPL", str(DAYS[10]), 4, id="s")
    answer(settings, [sent])
    MarketDataStore(settings).actions.accept("s", None, "it fell as well", MORNING)
    assert suspicions(adapter) == []
    answer(settings, [(sent[0], sent[1] | {"record_date": str(DAYS[9])})])
    assert suspicions(adapter) == []


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: s.accept("nope", None, "x", MORNING), "no corporate action 'nope'"),
        (lambda s: s.accept("AAPL", DAYS[3], " ", MORNING), "needs a reason"),
        (lambda s: s.add("name_change", "AAPL", DAYS[3], {}, "x", MORNING), "is one of"),
        (lambda s: s.add("cash_dividend", "AAPL", DAYS[3], {"rat": 1}, "x", MORNING), "has no rat; it has rate"),
        (lambda s: s.add("cash_dividend", "AAPL", DAYS[3], {}, "x", MORNING), "rate is missing"),
        (
            lambda s: s.add("forward_split", "AAPL", DAYS[3], {"new_rate": -2, "old_rate": 1}, "x", MORNING),
            "above zero",
        ),
    ],
)
def test_what_does_not_settle_is_refused(settings: Settings, call: Callable[[Any], None], message: str) -> None:
    adapter = stored(settings, {"AAPL": FLAT})
    answer(settings, [dividend("AAPL", str(DAYS[10]), 1)])
    with pytest.raises(BadParameter, match=message):
        call(MarketDataStore(settings).actions)
    assert len(statuses(adapter)) == 1


def test_reads_of_suspect_prices_warn_stop_or_go_on(settings: Settings) -> None:
    adapter = stored_moves(settings, 0.5, 10)
    rows = bar_rows("IBM", DAYS[:30])
    MarketDataStore(settings).write_bars(bar_table(rows))
    answer(settings, [])
    clock = lambda: datetime(2024, 4, 1, 8, tzinfo=UTC)  # noqa: E731
    for read in (
        lambda reader: reader.bars("AAPL"),
        lambda reader: reader.bars(),
        lambda reader: reader.get_bars("AAPL", "1Y"),
        lambda reader: reader.latest("rsi", "AAPL"),
        lambda reader: reader.indicator("sma", ["AAPL"], n=5),
        lambda reader: reader.indicators_table({"sma": {"n": 3}}, ["IBM", "AAPL"], latest=True),
    ):
        with pytest.warns(SuspectPricesWarning, match=f"AAPL {DAYS[10]}: missing split.*actions accept AAPL"):
            read(adapter)
        with pytest.raises(SuspectPrices, match="missing split"):
            read(CachedMarketDataAdapter(settings, clock=clock, on_suspect="error"))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            read(CachedMarketDataAdapter(settings, clock=clock, on_suspect="ignore"))
    strict = CachedMarketDataAdapter(settings, clock=clock, on_suspect="error")
    for read in (
        lambda reader: reader.bars("IBM"),
        lambda reader: reader.bars("AAPL", adjustment="raw"),
        lambda reader: reader.bars("AAPL", start=DAYS[10]),
        lambda reader: reader.bars("AAPL", end=DAYS[9]),
        lambda reader: reader.as_of(DAYS[9]).bars("AAPL"),
    ):
        assert len(read(strict))
    MarketDataStore(settings).actions.accept("AAPL", DAYS[10], "earnings", MORNING)
    assert len(strict.bars("AAPL"))
    with pytest.raises(BadParameter, match="neither error, warn nor ignore"):
        CachedMarketDataAdapter(settings, on_suspect="never")  # type: ignore[arg-type]


def test_factors_of_an_older_rule_are_computed_again(settings: Settings) -> None:
    adapter = stored(settings, {"AAPL": FLAT})
    answer(settings, [dividend("AAPL", str(DAYS[10]), 5.0, id="d")])
    store = MarketDataStore(settings).actions

    def older(table: Any) -> Any:
        import pyarrow as pa

        rows = table.to_pylist()
        return pa.Table.from_pylist(
            [row | {"rule": RULE - 1, "price_factor": 0.5} for row in rows], schema=table.schema
        )

    store.rewrite(older)
    assert closes(adapter, "AAPL")[0] == 50
    late = read_actions({"cash_dividends": [dividend("AAPL", str(DAYS[20]), 1.0)[1]]}, MORNING)[0]
    store.merge(late, DAYS[-1], everything=False)
    assert adapter.sql("select distinct rule from corporate_actions").fetchall() == [(RULE,)]
    assert closes(adapter, "AAPL")[0] == pytest.approx(100 * 0.95 * 0.99)


def test_a_refresh_withdraws_and_reports(settings: Settings, alpaca: AlpacaServer) -> None:
    source = AlpacaSource(settings, attempts=3, first_wait_seconds=0.02)
    service = DataRefreshService(settings, source=source)
    service.overnight(["AAPL"], date(2024, 1, 2), now=MORNING)
    removed = alpaca.data.actions["cash_dividends"].pop(
        next(i for i, row in enumerate(alpaca.data.actions["cash_dividends"]) if row["symbol"] == "AAPL"
             and row["ex_date"] > "2024-01-02")
    )  # fmt: skip
    report = service.overnight(["AAPL"], date(2024, 1, 2), now=MORNING + timedelta(hours=1))
    assert report.actions_withdrawn == 1
    adapter = CachedMarketDataAdapter(settings, clock=lambda: MORNING)
    assert statuses(adapter)[removed["id"]] == "withdrawn"


KINDS = st.sampled_from([
    split("AAPL", str(DAYS[10]), 3, id="s1"), split("AAPL", str(DAYS[11]), 3, id="s2"),
    split("AAPL", str(DAYS[10]), 4, id="s3"), dividend("AAPL", str(DAYS[10]), 4.6, id="d1"),
    dividend("AAPL", str(DAYS[10]), 4.85, id="d2"), dividend("AAPL", str(DAYS[20]), 2.0, id="d3"),
    dividend("AAPL", str(DAYS[20]), 200.0, id="d4"), vendor("stock_dividends", str(DAYS[5]), symbol="AAPL", rate=0.05),
])  # fmt: skip


@example_settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(answers=st.lists(st.lists(KINDS, max_size=5, unique_by=lambda row: row[1]["id"]), min_size=1, max_size=4))
def test_every_order_of_answers_ends_where_the_last_one_alone_does(
    make_settings: Callable[..., Settings], answers: list[Rows]
) -> None:
    from action_cases import new_lake

    ends = []
    for sequence in (answers, answers[-1:]):
        lake = new_lake(make_settings)
        adapter = stored(lake, {"AAPL": SPLIT})
        for rows in sequence:
            answer(lake, rows)
        ends.append((closes(adapter, "AAPL"), suspicions(adapter)))
    assert ends[0] == ends[1]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Suspects are what these tests are about."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SuspectPricesWarning)
        yield


def test_what_is_accepted_is_accepted_as_it_was(settings: Settings) -> None:
    """Neither a correction nor an action that comes later is silenced by what a person said before."""
    adapter = stored(settings, {"AAPL": FLAT})
    day = DAYS[10]
    store = MarketDataStore(settings).actions
    answer(settings, [dividend("AAPL", str(day), 40.0, id="a")])
    assert ("AAPL", day, "large dividend") in suspicions(adapter)
    store.accept("AAPL", day, "a special distribution", MORNING)
    assert suspicions(adapter) == []
    answer(settings, [dividend("AAPL", str(day), 40.0, id="a", payable_date=str(day))])
    assert suspicions(adapter) == []  # nothing that was looked at has changed
    answer(settings, [dividend("AAPL", str(day), 45.0, id="a")])
    assert ("AAPL", day, "large dividend") in suspicions(adapter)
    store.accept("AAPL", day, "so they say", MORNING)
    special = dividend("AAPL", str(day), 35.0, id="b")
    special[1]["special"] = True
    answer(settings, [dividend("AAPL", str(day), 45.0, id="a"), special])
    assert ("AAPL", day, "large dividend") in suspicions(adapter)


def test_regular_dividends_of_one_day_that_differ_are_asked_about(settings: Settings) -> None:
    adapter = stored(settings, {"AAPL": FLAT})
    day = DAYS[10]
    answer(settings, [dividend("AAPL", str(day), 1.0, id="a"), dividend("AAPL", str(day), 2.0, id="b")])
    assert closes(adapter, "AAPL")[0] == pytest.approx(97)
    assert suspicions(adapter) == [("AAPL", day, "two dividends")]
    MarketDataStore(settings).actions.accept("b", None, "an extra one", MORNING)
    assert suspicions(adapter) == []
