"""Actions that the vendor has announced and not completed: asked for, kept apart, and said where they are not known."""

import pytest
from conftest import MORNING
from vendor_histories import DAYS, HALVED, closes, reader, refresh, serve

from alchemiser_duck import CachedMarketDataAdapter, Settings
from alchemiser_duck.errors import SuspectPrices
from alchemiser_duck.sandbox import AlpacaServer

DAY = DAYS[20]
SPLIT = {"id": "s", "symbol": "NEWCO", "process_date": str(DAY), "ex_date": str(DAY), "new_rate": 2, "old_rate": 1}


def statuses(settings: Settings) -> list[tuple[str, str]]:
    adapter = CachedMarketDataAdapter(settings, clock=lambda: MORNING, on_suspect="ignore")
    return adapter.sql("select id, status from corporate_actions order by id").fetchall()


def test_an_action_that_is_not_complete_is_known_and_not_applied(settings: Settings, alpaca: AlpacaServer) -> None:
    """Bars have split, and the vendor's default answer hides why: a reader is told."""
    serve(alpaca, "NEWCO", HALVED)
    alpaca.announced = {"forward_splits": [SPLIT]}
    assert refresh(settings, ["NEWCO"]).failures == ()
    assert statuses(settings) == [("s", "announced")]
    with pytest.raises(SuspectPrices, match="announced"):
        reader(settings).bars("NEWCO").fetchall()
    alpaca.announced, alpaca.data.actions["forward_splits"] = {}, [SPLIT]
    refresh(settings, ["NEWCO"], hours=1)
    assert statuses(settings) == [("s", "applied")]
    assert closes(settings, "NEWCO")[0] == 50


def test_an_announcement_that_cannot_be_read_is_reported(settings: Settings, alpaca: AlpacaServer) -> None:
    serve(alpaca, "NEWCO", HALVED)
    alpaca.announced = {"forward_splits": [SPLIT, SPLIT | {"id": "t", "symbol": "NEWCO", "ex_date": 7}]}
    report = refresh(settings, ["NEWCO"])
    assert len(report.quarantined) == 1
    assert statuses(settings) == [("s", "announced")]


def test_a_vendor_who_does_not_know_the_parameter_is_no_failure_and_is_said(
    settings: Settings, alpaca: AlpacaServer
) -> None:
    """What was announced before stays as it was: an answer that does not exist withdraws nothing."""
    serve(alpaca, "NEWCO", HALVED)
    alpaca.announced = {"forward_splits": [SPLIT]}
    refresh(settings, ["NEWCO"])
    alpaca.knows_data_quality = False
    report = refresh(settings, ["NEWCO"], hours=1)
    assert (report.failures, report.actions_withdrawn) == ((), 0)
    assert report.note is not None
    assert "what is announced of 1 symbols is not known: Alpaca rejects the request" in report.note
    assert statuses(settings) == [("s", "announced")]
