"""Companies behind tickers: renames, reused tickers, ends; over the wire."""

from datetime import timedelta

import pytest
from conftest import MORNING
from vendor_histories import DAYS, HALVED, closes, reader, refresh, rename, serve, split

from alchemiser_duck import CachedMarketDataAdapter, Settings
from alchemiser_duck.sandbox import AlpacaServer


@pytest.fixture(autouse=True)
def no_actions(alpaca: AlpacaServer) -> None:
    alpaca.data.actions.clear()


def test_a_split_filed_under_the_old_ticker_is_the_new_one_s(settings: Settings, alpaca: AlpacaServer) -> None:
    serve(alpaca, "BALL", HALVED)
    split(alpaca, "BLL")
    rename(alpaca, "BLL", "BALL")
    refresh(settings, ["BALL"])
    assert closes(settings, "BALL") == [50.0] * len(DAYS)


def test_renames_are_followed_from_ticker_to_ticker(settings: Settings, alpaca: AlpacaServer) -> None:
    """A, then B, then C; A and B are others' tickers since, and split again."""
    serve(alpaca, "CC", HALVED)
    split(alpaca, "AA")
    split(alpaca, "AA", DAYS[70], 7, "C7")
    split(alpaca, "BB", DAYS[90], 5, "C5")
    rename(alpaca, "AA", "BB", DAYS[40])
    rename(alpaca, "BB", "CC", DAYS[80])
    refresh(settings, ["CC"])
    assert closes(settings, "CC") == [50.0] * len(DAYS)


def test_an_action_under_both_names_counts_once_and_a_former_owner_s_not(
    settings: Settings, alpaca: AlpacaServer
) -> None:
    serve(alpaca, "BALL", HALVED)
    split(alpaca, "BLL")
    split(alpaca, "BALL")
    split(alpaca, "BALL", DAYS[10], 9, "C9")
    rename(alpaca, "BLL", "BALL")
    refresh(settings, ["BALL"])
    assert closes(settings, "BALL") == [50.0] * len(DAYS)


def test_a_later_night_and_a_late_rename_end_in_the_same_prices(settings: Settings, alpaca: AlpacaServer) -> None:
    serve(alpaca, "BALL", HALVED)
    split(alpaca, "BLL")
    refresh(settings, ["BALL"])
    rename(alpaca, "BLL", "BALL")
    refresh(settings, ["BALL"], hours=1)
    assert closes(settings, "BALL") == [50.0] * len(DAYS)
    refresh(settings, ["BALL"], start=DAYS[-5], hours=2)
    assert closes(settings, "BALL") == [50.0] * len(DAYS)


def test_a_rename_to_itself_ends_nothing(settings: Settings, alpaca: AlpacaServer) -> None:
    serve(alpaca, "SAME", [100.0] * len(DAYS))
    rename(alpaca, "SAME", "SAME", DAYS[-1], ("C1", "C2"))
    refresh(settings, ["SAME"])
    late = CachedMarketDataAdapter(settings, clock=lambda: MORNING + timedelta(days=14))
    assert late.sql("select ended_by from symbols").fetchall() == [(None,)]
    ((status, behind),) = late.sql("select status, sessions_behind from freshness").fetchall()
    assert (status, behind > 5) == ("stale", True)


def test_a_reused_ticker_is_two_companies(settings: Settings, alpaca: AlpacaServer) -> None:
    """One until DAYS[60], another since: the vendor sends the new one's bars alone, and nothing is lost."""
    serve(alpaca, "RNA", HALVED)
    split(alpaca, "RNA", cusip="C1")
    refresh(settings, ["RNA"])
    assert closes(settings, "RNA") == [50.0] * len(DAYS)
    serve(alpaca, "RNA", [8.0] * len(DAYS), 60)
    alpaca.data.actions.clear()
    split(alpaca, "RNA", cusip="C1")
    former = f"RNA-{DAYS[60]:%Y%m}"
    report = refresh(settings, ["RNA"], hours=1)
    assert report.former == (former,)
    assert closes(settings, "RNA") == [8.0] * (len(DAYS) - 60)
    counts = reader(settings).sql("select symbol, count(*), min(date), max(date) from bars_raw group by 1 order by 1")
    assert counts.fetchall() == [("RNA", len(DAYS) - 60, DAYS[60], DAYS[-1]), (former, 60, DAYS[0], DAYS[59])]
    assert len(reader(settings).bars(former)) == 60
    ended = reader(settings).sql("select status from freshness order by symbol").fetchall()
    assert ended == [("fresh",), ("ended",)]
    assert reader(settings).sql("select symbol from findings where finding = 'stale'").fetchall() == []
    gone = reader(settings).sql("select count(*) from altered_bars where reason like 'of a former owner%'").fetchall()
    assert gone == [(60,)]
    serve(alpaca, "RNA", HALVED)  # it was the vendor's mistake
    refresh(settings, ["RNA"], hours=2)
    assert closes(settings, "RNA") == [50.0] * len(DAYS)
    assert reader(settings).sql("select distinct symbol from bars_raw").fetchall() == [("RNA",)]


def test_a_short_window_tells_a_former_owner_of_all_years(settings: Settings, alpaca: AlpacaServer) -> None:
    serve(alpaca, "RNA", [100.0] * len(DAYS))
    serve(alpaca, "IBM", [100.0] * len(DAYS))
    refresh(settings, ["RNA", "IBM"])
    serve(alpaca, "RNA", [8.0] * 3, len(DAYS) - 3)
    refresh(settings, ["RNA", "IBM"], start=DAYS[-8], hours=1)
    assert closes(settings, "RNA") == [8.0] * 3
    assert len(reader(settings).bars(f"RNA-{DAYS[-3]:%Y%m}")) == len(DAYS) - 3


def test_a_bar_that_is_gone_leaves_the_series_and_comes_back(settings: Settings, alpaca: AlpacaServer) -> None:
    serve(alpaca, "GONE", [100.0] * len(DAYS))
    refresh(settings, ["GONE"])
    row = alpaca.data.bars["GONE"].pop(DAYS[30])
    assert refresh(settings, ["GONE"], hours=1).former == ()
    assert len(closes(settings, "GONE")) == len(DAYS) - 1
    gone = reader(settings).sql("select date, reason from altered_bars").fetchall()
    assert gone == [(DAYS[30], "the vendor no longer sends it")]
    alpaca.data.bars["GONE"][DAYS[30]] = row
    refresh(settings, ["GONE"], hours=2)
    assert len(closes(settings, "GONE")) == len(DAYS)


def test_an_answer_without_history_for_many_is_not_believed(settings: Settings, alpaca: AlpacaServer) -> None:
    names = [f"N{letter}" for letter in "ABCDEFGH"]
    for name in names:
        serve(alpaca, name, [100.0] * len(DAYS))
    refresh(settings, names)
    for name in names[:5]:
        serve(alpaca, name, [100.0] * 10, len(DAYS) - 10)
    report = refresh(settings, names, hours=1)
    assert report.status == "partial"
    assert "is not believed" in " ".join(report.failures)
    assert all(len(closes(settings, name)) == len(DAYS) for name in names)


def test_an_empty_answer_removes_nothing(settings: Settings, alpaca: AlpacaServer) -> None:
    serve(alpaca, "SIVB", [100.0] * len(DAYS))
    refresh(settings, ["SIVB"])
    alpaca.data.bars["SIVB"] = {}
    refresh(settings, ["SIVB"], hours=1)
    assert len(closes(settings, "SIVB")) == len(DAYS)


@pytest.mark.parametrize("spelling", ["BRK-B", "BRK/B", "brk.b", "BRK.B"])
def test_one_company_is_one_symbol_however_it_is_spelt(settings: Settings, alpaca: AlpacaServer, spelling: str) -> None:
    serve(alpaca, "BRK.B", [100.0] * len(DAYS))
    report = refresh(settings, [spelling, "BRK.B"])
    assert [(outcome.symbol, outcome.status) for outcome in report.outcomes] == [("BRK.B", "ok")]
    assert len(reader(settings).bars(spelling)) == len(DAYS)
    assert reader(settings).latest("sma", spelling, n=5).fetchall()[0][0] == "BRK.B"


def test_the_universe_of_a_day_holds_what_has_ended_since(settings: Settings, alpaca: AlpacaServer) -> None:
    serve(alpaca, "OLD", [100.0] * 60)
    serve(alpaca, "NEW", [100.0] * len(DAYS), 50)
    serve(alpaca, "LONG", [100.0] * len(DAYS))
    refresh(settings, ["OLD", "NEW", "LONG"])
    adapter = reader(settings)
    assert adapter.universe(DAYS[40]) == ["LONG", "OLD"]
    assert adapter.universe(DAYS[55]) == ["LONG", "NEW", "OLD"]
    assert adapter.universe() == adapter.universe(DAYS[-1]) == ["LONG", "NEW"]
    assert adapter.as_of(DAYS[40]).universe() == ["LONG", "OLD"]
