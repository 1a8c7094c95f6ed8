"""A spin-off is priced by its new share, also where the lake does not hold it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from conftest import TUESDAY
from vendor_histories import DAYS, EX, file, reader, refresh, serve

from alchemiser_duck import DataRefreshService, Settings
from alchemiser_duck.errors import SuspectPrices
from alchemiser_duck.ingest.source import AlpacaSource
from alchemiser_duck.sandbox import AlpacaServer, Fault

EVENING = datetime(2025, 7, 15, 22, tzinfo=UTC)
HALF = {"source_rate": 2, "new_rate": 1}


def spin_off(alpaca: AlpacaServer, new_symbol: str = "CHILD", day: Any = EX, **fields: Any) -> None:
    file(
        alpaca, "spin_offs", day, source_symbol="PARENT", new_symbol=new_symbol, ex_date=str(day), **{**HALF, **fields}
    )


def asked_for(alpaca: AlpacaServer, symbol: str) -> list[dict[str, str]]:
    return [query for path, query in alpaca.requests if "bars" in path and query["symbols"] == symbol]


@pytest.fixture
def parent(alpaca: AlpacaServer) -> AlpacaServer:
    serve(alpaca, "PARENT", [100.0] * 20 + [80.0] * (len(DAYS) - 20))
    return alpaca


def first_close(settings: Settings) -> float:
    (close,) = reader(settings).sql("select close from bars where symbol = 'PARENT' order by date limit 1").fetchone()
    return float(close)


def test_the_first_close_is_fetched_and_kept_outside_the_universe(settings: Settings, parent: AlpacaServer) -> None:
    serve(parent, "CHILD", [40.0, 44.0, 48.0], first=20)
    spin_off(parent)
    report = refresh(settings, ["PARENT"])
    assert report.failures == ()
    assert first_close(settings) == pytest.approx(80.0)  # 100 less half a share of 40
    adapter = reader(settings)
    assert adapter.sql("select status, new_close from corporate_actions").fetchall() == [("applied", 40.0)]
    assert adapter.sql("select symbol from symbols").fetchall() == [("PARENT",)]
    assert adapter.sql("from corporate_action_suspects").fetchall() == []
    (asked,) = asked_for(parent, "CHILD")
    assert asked["asof"] == str(EX)  # the ticker of that day, whoever has it now
    refresh(settings, ["PARENT"], hours=1)
    assert len(asked_for(parent, "CHILD")) == 1
    assert first_close(settings) == pytest.approx(80.0)


def test_a_share_that_trades_some_days_later_is_waited_for(settings: Settings, parent: AlpacaServer) -> None:
    """Whether the lake holds it or not, the same close counts."""
    spin_off(parent)
    report = refresh(settings, ["PARENT"])
    assert report.new_suspects == 1
    with pytest.raises(SuspectPrices, match="PARENT"):
        reader(settings).bars(["PARENT"]).fetchall()
    serve(parent, "CHILD", [40.0, 44.0], first=22)
    refresh(settings, ["PARENT"], hours=1)
    assert first_close(settings) == pytest.approx(80.0)
    refresh(settings, ["PARENT", "CHILD"], hours=2)
    assert first_close(settings) == pytest.approx(80.0)


def test_a_share_that_never_trades_stays_a_suspect(settings: Settings, parent: AlpacaServer) -> None:
    serve(parent, "CHILD", [40.0], first=40)  # another company, a month later
    spin_off(parent)
    refresh(settings, ["PARENT"])
    rows = reader(settings).sql("select symbol, suspicion from corporate_action_suspects where not is_question")
    assert rows.fetchall() == [("PARENT", "not derived")]


def test_a_correction_of_the_day_or_the_share_asks_again(settings: Settings, parent: AlpacaServer) -> None:
    serve(parent, "CHILD", [40.0, 44.0, 48.0], first=20)
    serve(parent, "OTHER", [20.0], first=20)
    spin_off(parent)
    refresh(settings, ["PARENT"])
    (row,) = parent.data.actions["spin_offs"]
    row["new_symbol"] = "OTHER"
    refresh(settings, ["PARENT"], hours=1)
    assert first_close(settings) == pytest.approx(90.0)
    row["new_symbol"], row["new_rate"] = "CHILD", 2
    refresh(settings, ["PARENT"], hours=2)
    assert first_close(settings) == pytest.approx(60.0)
    row["new_rate"] = 1
    refresh(settings, ["PARENT"], hours=3)
    assert first_close(settings) == pytest.approx(80.0)
    assert len(asked_for(parent, "CHILD")) == 2  # a rate does not change what the share was worth


def test_a_close_that_cannot_be_fetched_is_said_and_fetched_later(settings: Settings, parent: AlpacaServer) -> None:
    serve(parent, "CHILD", [40.0], first=20)
    spin_off(parent)
    parent.faults.append(Fault("status", times=9, symbol="CHILD"))
    report = refresh(settings, ["PARENT"])
    assert any("CHILD" in failure and str(EX) in failure for failure in report.failures)
    parent.faults.clear()
    assert refresh(settings, ["PARENT"], hours=1).failures == ()
    assert first_close(settings) == pytest.approx(80.0)


def test_a_symbol_that_is_none_is_a_suspect_and_stops_nothing(settings: Settings, parent: AlpacaServer) -> None:
    spin_off(parent, new_symbol="123")
    report = refresh(settings, ["PARENT"])
    assert report.new_suspects == 1


def test_dividends_of_the_same_day_add_up_with_it(settings: Settings, parent: AlpacaServer) -> None:
    serve(parent, "CHILD", [40.0], first=20)
    file(parent, "cash_dividends", EX, symbol="PARENT", rate=10, ex_date=str(EX), special=False, foreign=False)
    spin_off(parent)
    refresh(settings, ["PARENT"])
    assert first_close(settings) == pytest.approx(70.0)


def test_the_evening_of_the_spin_off_knows_it(settings: Settings, alpaca: AlpacaServer) -> None:
    """At the first reading after the close, the fall is no loss."""
    place = DAYS.index(TUESDAY)
    serve(alpaca, "PARENT", [100.0] * place + [80.0])
    serve(alpaca, "CHILD", [40.0], first=place)
    spin_off(alpaca, day=TUESDAY)
    service = DataRefreshService(settings, source=AlpacaSource(settings, attempts=3, first_wait_seconds=0.02))
    service.overnight(["PARENT"], DAYS[0], now=EVENING - timedelta(days=1))
    service.post_close(["PARENT"], now=EVENING)
    assert first_close(settings) == pytest.approx(80.0)
