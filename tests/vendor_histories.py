"""Histories of made-up companies, as the vendor serves them, and the lakes that take them in."""

from datetime import date, timedelta
from typing import Any

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
            "t": f"{day}T{'05' if day < date(2025, 3, 9) else '04'}:00:00Z",
            "v": 1000,
            "n": 10,
            "vw": close,
            "o": close,
            "h": close + 1,
            "l": close - 1,
            "c": close,
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
