"""Corporate actions: stored once, overridden, suspected, verified."""

import json
import os
from datetime import date, timedelta
from typing import Any

import pytest
from action_cases import DAYS, closes, dividend, split, stored, take_in, vendor
from command_line import Ended, run
from conftest import MORNING

from alchemiser_duck import DataRefreshService, MarketDataStore, Settings
from alchemiser_duck.errors import BadParameter, UnknownSymbol
from alchemiser_duck.ingest import corporate_actions
from alchemiser_duck.ingest.corporate_actions import read_actions
from alchemiser_duck.ingest.source import AlpacaSource
from alchemiser_duck.ingest.verification import verify
from alchemiser_duck.lake.scan import Scan
from alchemiser_duck.query.session import DuckDBSession, Reading
from alchemiser_duck.sandbox import Sandbox
from alchemiser_duck.sandbox.alpaca_server import AlpacaServer


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
    """Else DuckDB compares each of 200,000 actions with every bar."""
    session = DuckDBSession(stored_settings)

    def explained(reading: Reading) -> str:
        with reading.copies(Scan()) as copies:
            connection = session.connection(names="action_factors", files=copies.files())
            connection.register("actions", corporate_actions.ACTION_SCHEMA.empty_table())
            return str(connection.execute("explain from action_factors('actions')").fetchall()[0][1])

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
        *(("MISSING", "missing split"), ("REVERSED", "split ratio")),
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
    """Cents and the other dividend formula explain every difference."""
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
