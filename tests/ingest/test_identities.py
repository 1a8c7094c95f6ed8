"""Companies behind tickers: renames, reused tickers, ends; over the wire."""

from datetime import date, timedelta
from typing import Any

import pytest
from conftest import MORNING

from alchemiser_duck import CachedMarketDataAdapter, DataRefreshService, Settings
from alchemiser_duck import exchange_calendar as calendar
from alchemiser_duck.ingest.source import AlpacaSource
from alchemiser_duck.sandbox import AlpacaServer

START = date(2025, 1, 2)
DAYS = calendar.sessions(START, date(2025, 7, 15))
EX, RENAMED = DAYS[20], DAYS[60]


def serve(alpaca: AlpacaServer, symbol: str, closes: list[float], first: int = 0) -> None:
    """Serve bars of a symbol from a session on."""
    alpaca.data.bars[symbol] = {
        day: {
            **{"t": f"{day}T{'05' if day < date(2025, 3, 9) else '04'}:00:00Z", "v": 1000, "n": 10, "vw": close},
            **{"o": close, "h": close + 1, "l": close - 1, "c": close},
        }
        for day, close in zip(DAYS[first:], closes, strict=False)
    }


def file(alpaca: AlpacaServer, kind: str, day: date, **fields: Any) -> None:
    """Let the vendor file an action, processed on its day."""
    row = {"id": f"{kind}-{day}-{'-'.join(map(str, fields.values()))}", "process_date": str(day), **fields}
    alpaca.data.actions.setdefault(kind, []).append(row)


def rename(
    alpaca: AlpacaServer, old: str, new: str, day: date = RENAMED, cusips: tuple[str, str] = ("C1", "C1")
) -> None:
    file(alpaca, "name_changes", day, old_symbol=old, new_symbol=new, old_cusip=cusips[0], new_cusip=cusips[1])


def split(alpaca: AlpacaServer, symbol: str, day: date = EX, new_rate: int = 2, cusip: str = "C1") -> None:
    file(alpaca, "forward_splits", day, symbol=symbol, cusip=cusip, new_rate=new_rate, old_rate=1, ex_date=str(day))


def refresh(settings: Settings, symbols: list[str], start: date = START, hours: int = 0) -> Any:
    source = AlpacaSource(settings, attempts=3, first_wait_seconds=0.02)
    now = MORNING + timedelta(hours=hours)
    return DataRefreshService(settings, source=source).overnight(symbols, start, now=now)


def reader(settings: Settings) -> CachedMarketDataAdapter:
    return CachedMarketDataAdapter(settings, clock=lambda: MORNING, on_suspect="error")


def closes(settings: Settings, symbol: str) -> list[float]:
    return [row[0] for row in reader(settings).bars(symbol).select("close").fetchall()]


HALVED = [100.0] * 20 + [50.0] * 200


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
