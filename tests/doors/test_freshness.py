"""Freshness, gaps, anomalies, check and repair."""

import json
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from command_line import run
from conftest import MORNING, TUESDAY, bar_rows, bar_table

from alchemiser_duck import CachedMarketDataAdapter, DataRefreshService, MarketDataStore, Settings
from alchemiser_duck import exchange_calendar as calendar
from alchemiser_duck.data_freshness_validator import DataFreshnessValidator
from alchemiser_duck.errors import BadParameter, EmptyLake, StaleData
from alchemiser_duck.sandbox import AlpacaServer, Fault, Sandbox

pytestmark = pytest.mark.usefixtures("both_ways")

NEW_YORK = calendar.NEW_YORK
START = date(2025, 1, 2)


def new_york(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=NEW_YORK)


def fill(settings: Settings, days: dict[str, list[date]], *, is_final: bool = True) -> None:
    """Store these sessions of each symbol, and the calendar."""
    store = MarketDataStore(settings)
    for symbol, sessions in days.items():
        store.write_bars(bar_table(bar_rows(symbol, sessions, is_final=is_final)))
    store.write_sessions(calendar.session_table(date(2000, 1, 1), date(2027, 12, 31)))


@pytest.mark.parametrize(
    ("moment", "delay", "expected"),
    [
        ("2025-07-15 16:03", 0, "2025-07-14"),  # closed, and the post-close refresh has not run yet
        ("2025-07-15 16:09", 0, "2025-07-14"),
        ("2025-07-15 16:10", 0, "2025-07-15"),  # the strategies run
        ("2025-07-15 16:10", 15, "2025-07-14"),  # the plan shows the close at 16:15
        ("2025-07-15 16:20", 15, "2025-07-15"),
        ("2025-07-16 09:30", 0, "2025-07-15"),
        ("2025-07-03 13:30", 0, "2025-07-02"),  # an early close: the refresh comes at 16:05 all the same
        ("2025-07-03 16:10", 0, "2025-07-03"),
        ("2025-07-04 18:00", 0, "2025-07-03"),  # Independence Day
        ("2025-07-06 12:00", 0, "2025-07-03"),  # Sunday after it
        ("2025-03-10 16:10", 0, "2025-03-10"),  # the first session of daylight saving time: 20:10 UTC
        ("2025-03-07 16:10", 0, "2025-03-07"),  # the last before it: 21:10 UTC
        ("2025-11-03 16:09", 0, "2025-10-31"),
        ("2025-11-03 16:10", 0, "2025-11-03"),
        ("2025-01-09 18:00", 0, "2025-01-08"),  # closed for a day of mourning
        ("2012-10-30 18:00", 0, "2012-10-26"),  # Sandy
        ("2001-09-16 12:00", 0, "2001-09-10"),
    ],
)
def test_a_session_is_expected_when_the_schedules_should_have_brought_it(
    make_settings: Callable[..., Settings], moment: str, delay: int, expected: str
) -> None:
    settings = make_settings(ALPACA_SIP_DELAY_MINUTES=str(delay))
    day = date.fromisoformat(expected)
    fill(settings, {"AAPL": [day], "OLD": [calendar.sessions(day - timedelta(days=9), day)[-2]]})
    report = DataFreshnessValidator(settings).validate(["AAPL", "OLD"], now=new_york(moment))
    assert report.expected_session == day
    assert report.fresh == ("AAPL",)
    assert report.stale == ("OLD",)
    assert report.sessions_behind == {"AAPL": 0, "OLD": 1}


def test_a_report_puts_every_symbol_in_one_list(settings: Settings) -> None:
    sessions = calendar.sessions(date(2025, 6, 2), TUESDAY)
    fill(settings, {"NEW": sessions, "LATE": sessions[:-3], "GONE": sessions[:-10], "HALF": [date(2024, 1, 2)]})
    actions = {"name_changes": [_rename("GONE", "NEW", sessions[-9])]}
    _store_actions(settings, actions)
    validator = DataFreshnessValidator(settings)
    report = validator.validate(["NEW", "LATE", "GONE", "HALF", "NONE"], now=MORNING)
    assert report.fresh == ("NEW",)
    assert report.ended == ("GONE",)
    assert report.missing == ("NONE",)
    behind = len(calendar.sessions(date(2024, 1, 3), TUESDAY))
    assert report.stale == ("HALF", "LATE")
    assert report.sessions_behind == {"NEW": 0, "LATE": 3, "GONE": 0, "HALF": behind}
    assert report.last_dates["LATE"] == sessions[-4]
    assert not report.is_fresh
    assert validator.validate(["NEW", "LATE", "GONE"], max_sessions_behind=3, now=MORNING).is_fresh
    with pytest.raises(StaleData, match=r"up to 2025-07-15 should be stored.*LATE \(last bar 2025-07-10, 3 sessions"):
        validator.validate(["LATE"], max_sessions_behind=2, raise_on_stale=True, now=MORNING)
    with pytest.raises(BadParameter):
        validator.validate(["LATE"], max_sessions_behind=-1)
    with pytest.raises(BadParameter):
        validator.validate("LATE")


def _rename(old: str, new: str, day: date) -> dict[str, Any]:
    return {"id": f"rename-{old}", "old_symbol": old, "new_symbol": new, "process_date": day.isoformat()}


def _store_actions(settings: Settings, lists: dict[str, list[dict[str, Any]]]) -> None:
    from alchemiser_duck.ingest.corporate_actions import read_actions

    MarketDataStore(settings).actions.merge(read_actions(lists, MORNING)[0], TUESDAY, everything=True)


def test_as_of_is_judged_by_that_day(settings: Settings) -> None:
    fill(settings, {"AAPL": calendar.sessions(date(2025, 6, 2), date(2025, 6, 10))})
    validator = DataFreshnessValidator(settings)
    assert validator.validate(["AAPL"], now=MORNING, as_of=date(2025, 6, 8)).is_fresh
    assert validator.validate(["AAPL"], now=MORNING, as_of=date(2025, 6, 11)).sessions_behind == {"AAPL": 1}


def test_a_lake_without_sessions_is_judged_by_those_known_at_release(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings(ALCHEMISER_SYMBOLS="")
    validator = DataFreshnessValidator(settings)
    with pytest.raises(EmptyLake):
        validator.validate(now=MORNING)
    assert validator.validate(["AAPL"], now=MORNING).missing == ("AAPL",)
    MarketDataStore(settings).write_bars(bar_table(bar_rows("AAPL", [TUESDAY])))
    assert validator.validate(now=MORNING).fresh == ("AAPL",)
    assert validator.findings(now=MORNING) == []


def test_sessions_that_end_too_early_stop_loudly(settings: Settings) -> None:
    fill(settings, {"AAPL": [TUESDAY]})
    MarketDataStore(settings).write_sessions(calendar.session_table(date(2000, 1, 1), date(2025, 6, 30)))
    with pytest.raises(Exception, match="sessions end before today"):
        DataFreshnessValidator(settings).validate(["AAPL"], now=MORNING)


def test_the_adapter_refuses_stale_bars(settings: Settings) -> None:
    sessions = calendar.sessions(date(2025, 5, 1), TUESDAY)
    fill(settings, {"NEW": sessions, "LATE": sessions[:-1]})
    strict = CachedMarketDataAdapter(settings, max_sessions_behind=0, clock=lambda: MORNING)
    reads: list[Callable[[list[str]], object]] = [
        lambda symbols: strict.get_bars(symbols[0]),
        lambda symbols: strict.bars(symbols),
        lambda symbols: strict.latest("sma", symbols, n=3),
        lambda symbols: strict.indicator("sma", symbols, n=3),
        lambda symbols: strict.indicators_table({"sma": {"n": 3}}, symbols),
        lambda symbols: strict.warm_cache(symbols),
    ]
    for read in reads:
        read(["NEW"])
        with pytest.raises(StaleData, match="LATE"):
            read(["LATE"])
    lenient = CachedMarketDataAdapter(settings, max_sessions_behind=1, clock=lambda: MORNING)
    assert lenient.get_bars("LATE")
    assert strict.as_of(sessions[-2]).get_bars("LATE")


def test_gaps_are_runs_of_missing_sessions(settings: Settings) -> None:
    sessions = calendar.sessions(date(2025, 6, 2), TUESDAY)
    fill(
        settings,
        {
            "WHOLE": sessions,
            "HOLES": [day for number, day in enumerate(sessions) if number not in (3, 10, 11, 12)],
            "YOUNG": sessions[5:],
            "GONE": sessions[:20],
            "LATE": sessions[:-2],
        },
    )
    _store_actions(settings, {"name_changes": [_rename("GONE", "WHOLE", sessions[20])]})
    adapter = CachedMarketDataAdapter(settings, clock=lambda: MORNING)
    query = "select * from gaps order by symbol, first_session"
    rows = DataFreshnessValidator(settings)._session.snapshot(query, lens=_at(MORNING)).fetchall()
    assert rows == [
        ("GONE", sessions[20], TUESDAY, len(sessions) - 20, "after delisting"),
        ("HOLES", sessions[3], sessions[3], 1, "vendor gap"),
        ("HOLES", sessions[10], sessions[12], 3, "vendor gap"),
        ("LATE", sessions[-2], TUESDAY, 2, "not delivered"),
        ("YOUNG", sessions[0], sessions[4], 5, "before listing"),
    ]
    past = adapter.as_of(sessions[8]).sql("select * from gaps where symbol = 'HOLES'").fetchall()
    assert past == [("HOLES", sessions[3], sessions[3], 1, "vendor gap")]


def _at(now: datetime) -> Any:
    from alchemiser_duck.query.session import Lens

    return Lens(now=now)


def test_anomalies_name_the_bars_that_look_wrong(settings: Settings) -> None:
    days = calendar.sessions(date(2025, 6, 2), date(2025, 6, 20))
    rows = bar_rows("AAPL", days)
    for number, row in enumerate(rows):
        row |= {"open": 100.0 + number, "close": 100.5 + number, "high": 102.0 + number, "low": 99.0 + number}
        row["volume"] = 1000 + number
    rows[2]["volume"] = 0
    rows[4] |= {name: rows[3][name] for name in ("open", "high", "low", "close", "volume")}
    rows[6]["low"] = 20.0
    rows[8]["high"] = 400.0
    for row in rows[11:]:
        row |= {name: row[name] * 2 for name in ("open", "high", "low", "close")}
    fill(settings, {})
    MarketDataStore(settings).write_bars(bar_table(rows))
    adapter = CachedMarketDataAdapter(settings, clock=lambda: MORNING)
    anomalies = adapter.sql("select date, anomaly, round(value, 3) from anomalies order by date").fetchall()
    assert anomalies == [
        (days[2], "zero volume", 0.0),
        (days[4], "repeated bar", 1003.0),
        (days[6], "low outlier", round(20 / 104, 3)),
        (days[8], "high outlier", round(400 / 111, 3)),
        (days[11], "overnight move", round(222 / 110.5, 3)),
    ]


def test_a_split_is_no_anomaly(settings: Settings) -> None:
    days = calendar.sessions(date(2025, 6, 2), date(2025, 6, 20))
    store = MarketDataStore(settings)
    fill(settings, {})
    store.write_bars(bar_table(bar_rows("AAPL", days[:5], 400.0) + bar_rows("AAPL", days[5:], 100.0)))
    adapter = CachedMarketDataAdapter(settings, clock=lambda: MORNING)
    moves = "from anomalies where anomaly = 'overnight move'"
    assert [row[1] for row in adapter.sql(moves).fetchall()] == [days[5]]
    split = {"id": "s", "symbol": "AAPL", "new_rate": 4, "old_rate": 1, "ex_date": days[5].isoformat()}
    _store_actions(settings, {"forward_splits": [split | {"process_date": days[5].isoformat()}]})
    assert adapter.sql(moves).fetchall() == []


def test_findings_are_repaired_by_fetching_just_them(
    make_settings: Callable[..., Settings], alpaca: AlpacaServer
) -> None:
    """Repair asks for exactly the days of the findings.

    Late, full of holes, provisional and quarantined: afterwards all is well.
    """
    settings = make_settings(ALCHEMISER_SYMBOLS="")
    elsewhere = make_settings(MARKET_DATA_BUCKET=f"{settings.bucket}/clean")
    DataRefreshService(elsewhere).overnight(["AAPL", "IBM"], START, now=MORNING)
    clean = MarketDataStore(elsewhere).read_bars()
    sessions = calendar.sessions(START, TUESDAY)
    bad, good = sessions[40], dict(alpaca.data.bars["AAPL"][sessions[40]])
    holes = {sessions[20], sessions[21], bad, TUESDAY}
    kept = [row for row in clean.to_pylist() if row["date"] not in holes or row["symbol"] == "IBM"]
    kept[-2]["is_final"] = False
    fill(settings, {})
    MarketDataStore(settings).write_bars(bar_table(kept))
    service = DataRefreshService(settings)
    alpaca.restate("AAPL", bad, h=good["l"] / 2)  # breaks the contract
    service.fetch(["AAPL"], bad, bad, now=MORNING)
    validator = DataFreshnessValidator(settings)
    later = MORNING + timedelta(hours=1)
    issues = validator.findings(now=later)
    assert [(issue.symbol, issue.finding, issue.first_session, issue.last_session) for issue in issues] == [
        ("AAPL", "vendor gap", sessions[20], sessions[21]),
        ("AAPL", "quarantined", bad, bad),
        ("AAPL", "stale", TUESDAY, TUESDAY),
        ("IBM", "not finalised", kept[-2]["date"], kept[-2]["date"]),
    ]
    alpaca.restate("AAPL", bad, h=good["h"])
    alpaca.requests.clear()
    reports = service.repair(issues, now=later)
    requests = [
        (query["symbols"], query["start"][:10], query["end"][:10]) for path, query in alpaca.requests if "bars" in path
    ]
    days = [(issue.symbol, str(issue.first_session), str(issue.last_session)) for issue in issues]
    assert sorted(requests) == sorted(days)
    assert len(reports) == 4
    assert validator.findings(now=later + timedelta(minutes=1)) == []
    assert MarketDataStore(settings).read_bars().equals(clean)
    assert service.repair([], now=later) == []


def test_a_gap_that_the_vendor_confirms_is_no_finding(settings: Settings, alpaca: AlpacaServer) -> None:
    service = DataRefreshService(settings)
    hole = calendar.sessions(START, TUESDAY)[30]
    del alpaca.data.bars["AAPL"][hole]
    service.overnight(["AAPL"], START, now=MORNING)
    adapter = CachedMarketDataAdapter(settings, clock=lambda: MORNING)
    assert adapter.sql("select first_session, kind from gaps").fetchall() == [(hole, "vendor gap")]
    assert DataFreshnessValidator(settings).findings(["AAPL"], now=MORNING + timedelta(minutes=5)) == []


def test_check_and_repair_from_the_command_line(box: Sandbox, settings: Settings) -> None:
    import os

    own = {"MARKET_DATA_BUCKET": settings.market_data_bucket, "ALCHEMISER_SYMBOLS": "AAPL,IBM"}
    variables = os.environ | box.environment | own
    service = DataRefreshService(settings)
    before = datetime(2025, 7, 14, 8, tzinfo=UTC)
    box.alpaca.clock = lambda: MORNING
    service.overnight(["AAPL"], START, now=before)
    now = ["--now", MORNING.isoformat()]
    checked = run(variables, "check", *now)
    assert checked.returncode == 4
    lines = checked.stdout.splitlines()
    assert re.fullmatch("IBM: missing.* refresh --mode overnight --symbols IBM", lines[0])
    assert lines[1].startswith("AAPL: stale 2025-07-14 to 2025-07-15: the last bar is of 2025-07-11")
    as_json = json.loads(run(variables, "check", "--json", "--symbols", "AAPL", *now).stdout)
    assert as_json[0]["first_session"] == "2025-07-14"
    assert as_json[0]["repair"] == "alchemiser-duck repair --symbols AAPL"
    repaired = run(variables, "repair", *now)
    assert repaired.returncode == 0, repaired.stderr
    healthy = run(variables, "check", *now)
    assert (healthy.returncode, healthy.stdout) == (0, "")
    assert "healthy" in healthy.stderr
    assert "nothing to repair" in run(variables, "repair", *now).stderr


def test_a_repair_that_fails_says_so(settings: Settings, alpaca: AlpacaServer) -> None:
    service = DataRefreshService(settings)
    service.overnight(["AAPL"], START, now=datetime(2025, 7, 14, 8, tzinfo=UTC))
    validator = DataFreshnessValidator(settings)
    alpaca.faults.append(Fault("status", times=50, status=400, symbol="AAPL"))
    reports = service.repair(validator.findings(["AAPL"], now=MORNING), now=MORNING)
    assert [report.status for report in reports] == ["failed"]
    alpaca.faults.clear()
    assert [issue.finding for issue in validator.findings(["AAPL"], now=MORNING)] == ["stale"]
