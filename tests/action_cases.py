"""Corporate actions as Alpaca sends them, and lakes that take them in."""

import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

from conftest import MORNING, bar_rows, bar_table

from alchemiser_duck import CachedMarketDataAdapter, MarketDataStore, Settings
from alchemiser_duck import exchange_calendar as calendar
from alchemiser_duck.ingest.corporate_actions import read_actions


def vendor(kind: str, day: str, **fields: Any) -> tuple[str, dict[str, Any]]:
    """Return a row as Alpaca sends it, after its list's name."""
    number = fields.pop("id", f"{kind}-{fields.get('symbol', fields.get('source_symbol'))}-{day}")
    return kind, {"id": number, "process_date": day, "ex_date": day, **fields}


def split(symbol: str, day: str, new: float, old: float = 1, **more: Any) -> tuple[str, dict[str, Any]]:
    return vendor("forward_splits" if new > old else "reverse_splits", day, symbol=symbol, new_rate=new, old_rate=old,
                  **more)  # fmt: skip


def dividend(symbol: str, day: str, rate: float, **more: Any) -> tuple[str, dict[str, Any]]:
    return vendor("cash_dividends", day, symbol=symbol, rate=rate, special=False, foreign=False, **more)


def new_lake(make_settings: Callable[..., Settings]) -> Settings:
    """Return a prefix of its own: each example begins with nothing."""
    return make_settings(MARKET_DATA_BUCKET=f"{make_settings().bucket}/{uuid.uuid4().hex}")


def take_in(settings: Settings, rows: list[tuple[str, dict[str, Any]]], today: date, *, everything: bool = True) -> Any:
    lists: dict[str, list[Any]] = {}
    for kind, row in rows:
        lists.setdefault(kind, []).append(row)
    actions, malformed = read_actions(lists, MORNING)
    assert malformed == []
    return MarketDataStore(settings).actions.merge(actions, today, everything=everything)


DAYS = calendar.sessions(date(2024, 1, 2), date(2024, 3, 28))


def stored(settings: Settings, closes: dict[str, list[float]]) -> CachedMarketDataAdapter:
    rows = [
        bar_rows(symbol, [day], close)[0]
        for symbol, prices in closes.items()
        for day, close in zip(DAYS, prices, strict=False)
    ]
    MarketDataStore(settings).write_bars(bar_table(rows))
    return CachedMarketDataAdapter(settings, clock=lambda: datetime(2024, 4, 1, 8, tzinfo=UTC))


def closes(adapter: CachedMarketDataAdapter, symbol: str, adjustment: Any = "all") -> list[float]:
    return [row[0] for row in adapter.bars([symbol], adjustment=adjustment).select("close").fetchall()]
