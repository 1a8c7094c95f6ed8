"""Who had which ticker from when to when, ends and halts, and companies that are stored once; over the wire."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from conftest import MORNING, bar_rows, bar_table
from vendor_histories import DAYS, RENAMED, START, closes, file, reader, refresh, rename, serve

from alchemiser_duck import CachedMarketDataAdapter, DataFreshnessValidator, MarketDataStore, Settings
from alchemiser_duck.errors import BadParameter, UnknownSymbol
from alchemiser_duck.sandbox import AlpacaServer

NOW = datetime(2025, 7, 16, 9, tzinfo=UTC)


@pytest.fixture(autouse=True)
def no_actions(alpaca: AlpacaServer) -> None:
    alpaca.data.actions.clear()


def rows(settings: Settings, text: str) -> list[tuple[Any, ...]]:
    return CachedMarketDataAdapter(settings, clock=lambda: MORNING).sql(text).fetchall()


LISTINGS = """
    select symbol, series, company, valid_from, valid_to, began_by, ended_by, successor
    from listings order by symbol, valid_from
"""


def test_a_company_is_stored_once_under_its_newest_ticker(settings: Settings, alpaca: AlpacaServer) -> None:
    """FB is stored, becomes META, and META comes into the universe with FB's whole history."""
    serve(alpaca, "FB", [10.0] * 60)
    serve(alpaca, "OTHER", [5.0] * 200)
    refresh(settings, ["FB", "OTHER"])
    serve(alpaca, "META", [10.0] * 200)
    rename(alpaca, "FB", "META")
    for hours in (1, 2):
        report = refresh(settings, ["FB", "META", "OTHER"], hours=hours)
        assert report.failures == ()
    assert report.changes.added == 0, "FB's bars come every night, and are none"
    assert rows(settings, "select date, count(*) from bars group by date having count(*) <> 2") == []
    assert closes(settings, "META") == [10.0] * len(DAYS)
    assert rows(settings, LISTINGS) == [
        ("FB", "META", "META", DAYS[0], RENAMED, "listing", "name_change", "META"),
        ("META", "META", "META", RENAMED, None, "name_change", None, None),
        ("OTHER", "OTHER", "OTHER", DAYS[0], None, "listing", None, None),
    ]
    with pytest.raises(UnknownSymbol, match=f"FB ended on {RENAMED}, and its bars are stored as META: ask for META"):
        reader(settings).bars("FB")
    validated = DataFreshnessValidator(settings).validate(["FB", "META"], now=MORNING)
    assert (validated.ended, validated.missing, validated.is_fresh) == (("FB",), (), True)
    assert rows(settings, "from altered_bars") == [], "what is equal is not lost"


def test_bars_that_differ_under_both_tickers_stay_findable(settings: Settings, alpaca: AlpacaServer) -> None:
    serve(alpaca, "FB", [11.0] + [10.0] * 59)
    refresh(settings, ["FB"])
    serve(alpaca, "META", [10.0] * 200)
    rename(alpaca, "FB", "META")
    refresh(settings, ["META"], hours=1)
    assert rows(settings, "select distinct symbol from bars_raw") == [("META",)]
    assert rows(settings, "select symbol, date, reason from altered_bars") == [
        ("FB", DAYS[0], "the company is META now")
    ]


def test_tickers_that_were_swapped_keep_their_bars(settings: Settings, alpaca: AlpacaServer) -> None:
    serve(alpaca, "AA", [10.0] * 200)
    serve(alpaca, "BB", [20.0] * 200)
    rename(alpaca, "AA", "BB", cusips=("C1", "C1"))
    rename(alpaca, "BB", "AA", cusips=("C2", "C2"))
    refresh(settings, ["AA", "BB"])
    assert rows(settings, "select symbol, count(*) from bars group by all order by all") == [
        ("AA", len(DAYS)), ("BB", len(DAYS)),
    ]  # fmt: skip
    listed = rows(settings, LISTINGS)
    assert [(row[0], row[3], row[4], row[7]) for row in listed] == [
        ("AA", DAYS[0], RENAMED, "BB"), ("AA", RENAMED, None, None),
        ("BB", DAYS[0], RENAMED, "AA"), ("BB", RENAMED, None, None),
    ]  # fmt: skip


def test_a_chain_of_renames_is_one_company(settings: Settings, alpaca: AlpacaServer) -> None:
    serve(alpaca, "CC", [10.0] * 200)
    rename(alpaca, "AA", "BB", DAYS[40])
    rename(alpaca, "BB", "CC", DAYS[80])
    refresh(settings, ["CC"])
    assert rows(settings, LISTINGS) == [
        ("AA", "CC", "CC", DAYS[0], DAYS[40], "listing", "name_change", "BB"),
        ("BB", "CC", "CC", DAYS[40], DAYS[80], "name_change", "name_change", "CC"),
        ("CC", "CC", "CC", DAYS[80], None, "name_change", None, None),
    ]


def test_a_reused_ticker_is_two_listings(settings: Settings, alpaca: AlpacaServer) -> None:
    serve(alpaca, "RNA", [10.0] * 50)
    refresh(settings, ["RNA"])
    serve(alpaca, "RNA", [70.0] * 200, first=80)
    refresh(settings, ["RNA"], hours=1)
    former = f"RNA-{DAYS[80]:%Y%m}"
    assert rows(settings, LISTINGS) == [
        ("RNA", former, former, DAYS[0], DAYS[49] + timedelta(1), "listing", "reused", None),
        ("RNA", "RNA", "RNA", DAYS[80], None, "listing", None, None),
    ]
    assert rows(settings, "select symbol, ended_by from symbols order by symbol") == [("RNA", None), (former, "reused")]


def test_mergers_redemptions_and_removals_end_a_listing(settings: Settings, alpaca: AlpacaServer) -> None:
    for symbol in ("MRG", "RDM", "WRT"):
        serve(alpaca, symbol, [10.0] * 60)
    serve(alpaca, "BUY", [10.0] * 200)
    file(alpaca, "stock_mergers", DAYS[60], acquiree_symbol="MRG", acquirer_symbol="BUY", effective_date=str(DAYS[60]))
    file(alpaca, "redemptions", DAYS[60], symbol="RDM", rate=10.0)
    file(alpaca, "worthless_removals", DAYS[60], symbol="WRT")
    refresh(settings, ["MRG", "RDM", "WRT", "BUY"])
    assert rows(settings, "select symbol, valid_to, ended_by, successor from listings order by symbol") == [
        ("BUY", None, None, None),
        ("MRG", DAYS[60], "stock_merger", "BUY"),
        ("RDM", DAYS[60], "redemption", None),
        ("WRT", DAYS[60], "worthless_removal", None),
    ]


def test_what_no_longer_trades_is_not_stale_for_ever(settings: Settings, alpaca: AlpacaServer) -> None:
    for symbol, count in (("SIVB", 47), ("HLT", 100), ("OLD", 200)):
        serve(alpaca, symbol, [10.0] * count)
    refresh(settings, ["SIVB", "HLT", "OLD"])
    everything = ["SIVB", "HLT", "OLD"]
    validator, store = DataFreshnessValidator(settings), MarketDataStore(settings)
    assert validator.validate(everything, now=MORNING).stale == ("HLT", "SIVB")
    ended = store.note_end("sivb", DAYS[47], "closed by the regulator", NOW)
    halted = store.note_end("HLT", DAYS[100], "news pending", NOW, is_halt=True)
    report = validator.validate(everything, now=MORNING)
    assert (report.stale, report.halted, report.ended, report.is_fresh) == ((), ("HLT",), ("SIVB",), True)
    assert report.sessions_behind["HLT"] == len(DAYS) - 100, "how far it is behind stays visible"
    assert rows(settings, "select symbol, finding from findings where finding in ('stale', 'large move')") == []
    CachedMarketDataAdapter(settings, clock=lambda: MORNING, max_sessions_behind=0).bars(["SIVB", "HLT", "OLD"])
    assert rows(settings, "select distinct ended_by from symbols where symbol = 'SIVB'") == [("delisting",)]

    serve(alpaca, "HLT", [10.0] * 105)  # it trades again, and stops once more: nobody has said why
    refresh(settings, ["SIVB", "HLT", "OLD"], hours=1)
    assert validator.validate(everything, now=MORNING).stale == ("HLT",)
    store.actions.restore(halted)
    store.actions.restore(ended)
    assert validator.validate(everything, now=MORNING).stale == ("HLT", "SIVB")


def test_an_end_needs_a_stored_symbol_a_day_and_a_reason(settings: Settings) -> None:
    store = MarketDataStore(settings)
    store.write_bars(bar_table(bar_rows("SIVB", [START])))
    with pytest.raises(UnknownSymbol, match="did you mean SIVB"):
        store.note_end("SIVC", START, "typo", NOW)
    with pytest.raises(BadParameter, match="needs a reason"):
        store.note_end("SIVB", START, " ", NOW)
    with pytest.raises(BadParameter, match="day"):
        store.note_end("SIVB", "yesterday", "closed", NOW)
