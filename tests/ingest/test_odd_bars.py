"""Odd bars: what is still a bar is kept, what is none stays findable, and a person has the last word."""

import json
import os
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from action_cases import dividend, split, take_in
from command_line import run
from conftest import MORNING, bar_rows, bar_table

from alchemiser_duck import CachedMarketDataAdapter, DataRefreshService, MarketDataStore, Settings
from alchemiser_duck import exchange_calendar as calendar
from alchemiser_duck.errors import BadParameter
from alchemiser_duck.ingest.source import AlpacaSource
from alchemiser_duck.sandbox import AlpacaServer, Sandbox

START = date(2025, 6, 2)
DAYS = calendar.sessions(START, date(2025, 7, 15))
ODD, SATURDAY = DAYS[5], date(2025, 6, 14)


def refresh(settings: Settings, now: datetime = MORNING) -> Any:
    source = AlpacaSource(settings, attempts=3, first_wait_seconds=0.02)
    return DataRefreshService(settings, source=source).overnight(["AAPL", "IBM"], START, now=now)


def adapter(settings: Settings) -> CachedMarketDataAdapter:
    return CachedMarketDataAdapter(settings, clock=lambda: MORNING)


@pytest.mark.parametrize(
    ("sent", "stored", "noted"),
    [
        ({"o": 500.0}, {"open": 500.0}, False),
        ({"vw": 0}, {"vwap": None}, False),
        ({"v": 12345.5}, {"volume": 12346}, True),
        ({"n": 7.5}, {"trade_count": 8}, True),
        ({"v": 0}, {"volume": 0}, False),
    ],
)
def test_an_odd_bar_costs_nothing(
    settings: Settings, alpaca: AlpacaServer, sent: dict[str, Any], stored: dict[str, Any], noted: bool
) -> None:
    alpaca.restate("AAPL", ODD, **sent)
    report = refresh(settings)
    assert report.status == "ok"
    assert report.quarantined == ()
    reader = adapter(settings)
    (row,) = reader.sql(f"from bars_raw where symbol = 'AAPL' and date = '{ODD}'").to_arrow_table().to_pylist()
    assert row | stored == row
    assert reader.sql("select count(*) from bars_raw where symbol = 'AAPL'").fetchall() == [(len(DAYS),)]
    altered = reader.sql("select symbol, date, sent from altered_bars").fetchall()
    assert [(symbol, day) for symbol, day, _ in altered] == [("AAPL", ODD)] * noted
    assert all(json.loads(text).items() >= sent.items() for _, _, text in altered)


def test_open_and_close_outside_of_high_and_low_are_anomalies_and_no_findings(
    settings: Settings, alpaca: AlpacaServer
) -> None:
    alpaca.restate("AAPL", ODD, o=25.05, h=25.04, l=25.04, c=25.04)
    for day in DAYS:
        if day != ODD:
            alpaca.restate("AAPL", day, o=25.0, h=25.1, l=24.9, c=25.0)
    alpaca.data.actions.clear()
    refresh(settings)
    rows = adapter(settings).sql("select date, anomaly from anomalies where symbol = 'AAPL' and anomaly like 'open%'")
    assert rows.fetchall() == [(ODD, "open or close outside")]
    assert adapter(settings).sql("from findings where symbol = 'AAPL'").fetchall() == []


def test_what_cannot_be_a_bar_stays_findable(settings: Settings, alpaca: AlpacaServer) -> None:
    """A test bar on a Saturday, a price of zero: turned away with the values that came, and nothing else is."""
    bad, weekend = DAYS[-2], {**alpaca.data.bars["AAPL"][ODD], "t": "2025-06-14T04:00:00Z", "c": 1.25}
    alpaca.data.bars["AAPL"][SATURDAY] = weekend
    alpaca.restate("IBM", bad, l=0)
    refresh(settings)
    reader = adapter(settings)
    rows = reader.sql("select symbol, date, reason, sent from quarantined_bars order by symbol").fetchall()
    assert [(symbol, day) for symbol, day, _, _ in rows] == [("AAPL", SATURDAY), ("IBM", bad)]
    assert "no session" in rows[0][2]
    assert json.loads(rows[0][3])["close"] == 1.25
    assert json.loads(rows[1][3])["low"] == 0
    assert reader.sql(f"from bars_raw where date = '{SATURDAY}'").fetchall() == []
    found = reader.sql("select symbol, finding from findings where finding = 'quarantined'").fetchall()
    assert found == [("IBM", "quarantined")]  # a Saturday cannot be fetched again


def test_bars_before_a_restatement_stay_findable(settings: Settings, alpaca: AlpacaServer) -> None:
    refresh(settings)
    before = alpaca.data.bars["AAPL"][ODD]["c"]
    alpaca.restate("AAPL", ODD, c=before + 0.01)
    assert refresh(settings, MORNING + timedelta(hours=1)).changes.restated == 1
    ((day, sent),) = adapter(settings).sql("select date, sent from altered_bars where symbol = 'AAPL'").fetchall()
    assert (day, json.loads(sent)["close"]) == (ODD, before)


def mrk(settings: Settings) -> None:
    """A low of 13.19 on a day at 66, as the vendor sends MRK 2021-06-11."""
    days = calendar.sessions(date(2021, 6, 1), date(2021, 6, 25))
    rows = bar_rows("MRK", days, 66.0)
    rows[8] |= {"low": 13.19}
    MarketDataStore(settings).write_bars(bar_table(rows))


def test_a_bad_print_shows_in_check_and_is_mended_for_good(settings: Settings) -> None:
    mrk(settings)
    store, reader = MarketDataStore(settings), adapter(settings)
    day = date(2021, 6, 11)
    findings = "select symbol, first_session, finding from findings where finding like '%outlier'"
    assert reader.sql(findings).fetchall() == [("MRK", day, "low outlier")]
    store.override_bar("mrk", "2021-06-11", {"low": "65.10"}, "a P print", MORNING)
    low = f"select low from bars_raw where symbol = 'MRK' and date = '{day}'"
    assert reader.sql(low).fetchall() == [(65.10,)]
    assert reader.sql(findings).fetchall() == []
    mrk(settings)  # the vendor says it again
    assert reader.sql(low).fetchall() == [(65.10,)]
    ((override, values, vendor, reason),) = reader.sql(
        "select override, values, vendor, reason from bar_overrides"
    ).fetchall()
    assert (override, json.loads(values), json.loads(vendor)["low"], reason) == (
        "replace", {"low": 65.1}, 13.19, "a P print",
    )  # fmt: skip
    store.restore_bar("MRK", day)
    assert reader.sql(low).fetchall() == [(13.19,)]
    store.override_bar("MRK", day, {}, "it was so", MORNING)
    assert reader.sql(low).fetchall() == [(13.19,)]
    assert reader.sql(findings).fetchall() == []


def test_a_dropped_bar_stays_out_and_comes_back_as_the_vendor_last_sent_it(settings: Settings) -> None:
    days = DAYS[:10]
    rows = bar_rows("AAPL", days)
    store, reader = MarketDataStore(settings), adapter(settings)
    store.write_bars(bar_table(rows))
    store.override_bar("AAPL", days[3], None, "a test bar", MORNING)
    count = "select count(*), max(close) from bars_raw"
    assert reader.sql(count).fetchall() == [(9, 100.0)]
    rows[3] |= {"close": 100.5}
    store.write_bars(bar_table(rows))
    assert reader.sql(count).fetchall() == [(9, 100.0)]
    store.restore_bar("AAPL", days[3])
    assert reader.sql(count).fetchall() == [(10, 100.5)]


def test_an_overridden_close_makes_other_factors(settings: Settings, alpaca: AlpacaServer) -> None:
    days = DAYS[:10]
    store, reader = MarketDataStore(settings), adapter(settings)
    store.write_bars(bar_table(bar_rows("AAPL", days)))
    take_in(settings, [dividend("AAPL", str(days[5]), 5.0)], days[-1])
    assert reader.sql("select price_factor from corporate_actions").fetchall() == [(0.95,)]
    store.override_bar("AAPL", days[4], {"close": 50.0, "low": 49.0}, "says the exchange", MORNING)
    assert reader.sql("select price_factor from corporate_actions").fetchall() == [(0.9,)]


@pytest.mark.parametrize(
    ("symbol", "day", "values", "reason", "message"),
    [
        ("AAPL", "2025-06-02", {"lo": 1}, "x", "has no 'lo'; it has open, high, low"),
        ("AAPL", "2025-06-02", {"low": "abc"}, "x", "low=abc is not a number"),
        ("AAPL", "2025-06-02", {"low": -1}, "x", "above zero"),
        ("AAPL", "2025-06-02", {"low": 300}, "x", "high 101 would be below low 300"),
        ("AAPL", "2025-06-02", {"low": 99}, " ", "needs a reason"),
        ("AAPL", "2025-06-01", {"low": 99}, "x", "no bar of AAPL on 2025-06-01 is stored"),
        ("NOPE", "2025-06-02", {"low": 99}, "x", "no bar of NOPE"),
        ("AAPL", "tomorrow", {"low": 99}, "x", "is not a date"),
    ],
)
def test_an_override_that_does_not_fit_is_refused(
    settings: Settings, symbol: str, day: str, values: dict[str, Any], reason: str, message: str
) -> None:
    store = MarketDataStore(settings)
    store.write_bars(bar_table(bar_rows("AAPL", DAYS[:3])))
    with pytest.raises(BadParameter, match=message):
        store.override_bar(symbol, day, values, reason, MORNING)
    with pytest.raises(BadParameter, match="is not overridden"):
        store.restore_bar("AAPL", DAYS[0])
    assert adapter(settings).sql("from bar_overrides").fetchall() == []


def test_adjusted_volume_keeps_the_fractions_of_many_reverse_splits(settings: Settings) -> None:
    days = calendar.sessions(date(2015, 1, 2), date(2015, 12, 31))[::20]
    store, reader = MarketDataStore(settings), adapter(settings)
    store.write_bars(bar_table(bar_rows("UVXY", days)))
    ratios = (25, 9, 100, 100, 60, 100)
    take_in(
        settings, [split("UVXY", str(day), 1, ratio) for day, ratio in zip(days[1:], ratios, strict=False)], days[-1]
    )
    ((volume,),) = reader.sql(f"select volume from bars where date = '{days[0]}'").fetchall()
    assert volume == pytest.approx(1000 / (25 * 9 * 100 * 100 * 60 * 100), rel=1e-12)


def test_weeks_and_months_are_complete_when_their_last_session_is_there(settings: Settings) -> None:
    """Good Friday 2025-04-18: the week is complete on Thursday; a vwap counts the days that have one."""
    days = calendar.sessions(date(2025, 4, 7), date(2025, 4, 17))
    store, reader = MarketDataStore(settings), adapter(settings)
    rows = bar_rows("AAPL", days)
    rows[-1] |= {"vwap": None, "volume": 9000}
    store.write_bars(bar_table(rows))
    store.write_sessions(calendar.session_table(date(2025, 1, 1), date(2025, 12, 31)))
    weeks = reader.sql("select date, is_complete, vwap, volume from bars_weekly order by date").fetchall()
    assert weeks == [(date(2025, 4, 11), True, 100.0, 5000.0), (date(2025, 4, 17), True, 100.0, 12000.0)]
    assert reader.sql("select is_complete from bars_monthly").fetchall() == [(False,)]
    shorter = CachedMarketDataAdapter(settings, clock=lambda: datetime(2025, 4, 17, tzinfo=UTC)).as_of("2025-04-16")
    assert shorter.sql("select is_complete from bars_weekly order by date").fetchall() == [(True,), (False,)]


def test_the_commands_override_accept_list_and_restore(settings: Settings, box: Sandbox) -> None:
    mrk(settings)
    variables = os.environ | box.environment | {"MARKET_DATA_BUCKET": settings.market_data_bucket}
    for arguments, code, said in (
        (("bars", "MRK", "--adjustment", "raw", "--format", "csv"), 0, "13.19"),
        (("bars", "override", "MRK", "2021-06-11", "--set", "low=65.10", "--reason", "a P print"), 0, ""),
        (("bars", "MRK", "--adjustment", "raw", "--format", "csv"), 0, "65.1"),
        (("bars", "overrides", "--format", "csv"), 0, "a P print"),
        (("bars", "restore", "MRK", "2021-06-11"), 0, ""),
        (("bars", "restore", "MRK", "2021-06-11"), 2, ""),
        (("bars", "override", "MRK", "2021-06-11", "--reason", "x"), 2, ""),
        (("bars", "accept", "MRK", "2021-06-11", "--reason", "it was so"), 0, ""),
    ):
        ended = run(variables, *arguments)
        assert ended.returncode == code, (arguments, ended.stderr)
        assert said in ended.stdout
