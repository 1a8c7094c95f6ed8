"""Answer requests from a scenario as Alpaca would."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from alchemiser_duck import exchange_calendar as calendar
from alchemiser_duck.sandbox.market import ADJUSTMENTS, adjusted_bars, visible_bars
from alchemiser_duck.sandbox.queries import (
    Query,
    Refusal,
    feed_of,
    limit_of,
    moment_of,
    names_of,
    page_of,
    symbols_of,
    token_of,
)
from alchemiser_duck.sandbox.real_data import MarketData, WireRow

Rows = list[tuple[str, WireRow]]
"""Each with its symbol, or its list."""


@dataclass(eq=False, repr=False)
class Scenario:
    """The stand-in's market and habits; change them while it runs."""

    data: MarketData
    clock: Callable[[], datetime] = calendar.utc_now
    free_plan: bool = True
    """recent SIP data is refused, and what is visible lags 15 minutes"""
    page_rows: int | None = None
    """send at most this many rows a page, whatever the limit"""
    repeat_token: bool = False
    """never end: answer every page with the same token"""
    announced: dict[str, list[WireRow]] = field(default_factory=dict)
    """per plural type: corporate actions that are not complete yet, shown to who asks with data_quality=all"""
    knows_data_quality: bool = True
    """else that parameter is an error, as before 2026-07-30"""
    ignore_end: bool = False
    """send bars up to now whatever `end` says, today's half-formed one included"""

    def answer(self, path: str, query: Query) -> dict[str, Any]:
        """Return the body of a 200.

        Raises:
            Refusal: the answer has another status.
        """
        match path.strip("/").split("/"):
            case ["v2", "stocks", "bars"]:
                return self._bars(query)
            case ["v2", "stocks", "quotes", "latest"]:
                return self._quotes(query)
            case ["v1" | "v1beta1", "corporate-actions"]:
                return self._corporate_actions(query)
            case _:
                raise Refusal(404, "not found")

    def _bars(self, query: Query) -> dict[str, Any]:
        symbols = symbols_of(query)
        if not re.fullmatch(r"[1-9]\d*(Min|T|Hour|H|Day|D|Week|W|Month|M)", query.get("timeframe", "")):
            raise Refusal(400, f"invalid timeframe: {query.get('timeframe', '')}")
        visible = self.clock() - timedelta(minutes=15) if self.free_plan else self.clock()
        start, end = self._period(query, visible)
        limit = limit_of(query, default=1000, most=10_000)
        rows: Rows = []
        if query["timeframe"] in ("1Day", "1D"):
            kinds = set(query.get("adjustment", "raw").split(","))
            if not kinds <= ADJUSTMENTS:
                raise Refusal(400, f"invalid adjustment: {query['adjustment']}")
            for symbol in symbols:
                adjusted = adjusted_bars(self.data, symbol, kinds, visible)
                rows += [(symbol, row) for row in adjusted if start <= datetime.fromisoformat(row["t"]) <= end]
        if query.get("sort") == "desc":
            rows.sort(key=lambda item: item[1]["t"], reverse=True)
            rows.sort(key=lambda item: item[0])
        bars, token = self._page(rows, limit, query, lambda item: f"{item[0]}|D|{item[1]['t']}")
        return {"bars": bars, "next_page_token": token}

    def _period(self, query: Query, visible: datetime) -> tuple[datetime, datetime]:
        now = self.clock()
        midnight = datetime.combine(calendar.new_york_date(now), datetime.min.time(), calendar.NEW_YORK)
        start, end = moment_of(query, "start", midnight), moment_of(query, "end", visible)
        if feed_of(query) == "sip" and self.free_plan and end > visible:
            raise Refusal(403, "subscription does not permit querying recent SIP data")
        if end < start:
            raise Refusal(400, "end should not be before start")
        return start, now if self.ignore_end else end

    def _corporate_actions(self, query: Query) -> dict[str, Any]:
        limit = limit_of(query, default=100, most=1000)
        today = calendar.new_york_date(self.clock()).isoformat()
        first, last = query.get("start", today)[:10], query.get("end", today)[:10]
        types = {kind + "s" for kind in names_of(query, "types")}
        symbols, cusips, ids = (names_of(query, name) for name in ("symbols", "cusips", "ids"))

        def matches(kind: str, row: WireRow) -> bool:
            if ids:
                return row.get("id") in ids
            return (
                first <= row["process_date"] <= last
                and (not types or kind in types)
                and (not symbols or bool(_fields(row, "symbol") & symbols))
                and (not cusips or bool(_fields(row, "cusip") & cusips))
            )

        shown = [self.data.actions, *([self.announced] if self._shows_announced(query) else [])]
        rows: Rows = [
            (kind, row) for lists in shown for kind, listed in lists.items() for row in listed if matches(kind, row)
        ]
        rows.sort(key=_action_order, reverse=query.get("sort") == "desc")
        actions, token = self._page(rows, limit, query, lambda item: "|".join(_action_order(item)))
        return {"corporate_actions": actions, "next_page_token": token}

    def _shows_announced(self, query: Query) -> bool:
        quality = query.get("data_quality", "complete")
        if quality not in ("complete", "all") or ("data_quality" in query and not self.knows_data_quality):
            raise Refusal(400, f"invalid data_quality: {quality}")
        return quality == "all"

    def _quotes(self, query: Query) -> dict[str, Any]:
        """Quote one cent around the newest close: no real quotes exist."""
        now = self.clock()
        if self.free_plan and feed_of(query) == "sip":
            raise Refusal(403, "subscription does not permit querying recent SIP data")
        newest = {symbol: visible_bars(self.data, symbol, now)[-1:] for symbol in symbols_of(query)}
        stamp = now.astimezone(UTC).isoformat().replace("+00:00", "Z")
        size = {"t": stamp, "bs": 2, "bx": "V", "as": 3, "ax": "V", "c": ["R"], "z": "C"}
        return {
            "quotes": {
                symbol: size | {"bp": round(bar["c"] - 0.01, 4), "ap": round(bar["c"] + 0.01, 4)}
                for symbol, rows in newest.items()
                for bar in rows
            }
        }

    def _page(
        self, rows: Rows, limit: int, query: Query, cursor: Callable[[tuple[str, WireRow]], str]
    ) -> tuple[dict[str, list[WireRow]], str | None]:
        """Return one page by symbol or list, and its token."""
        page, token = page_of(rows, min(limit, self.page_rows or limit), query.get("page_token"), cursor)
        if self.repeat_token and rows:
            token = token_of(cursor(rows[0]))
        grouped: dict[str, list[WireRow]] = {}
        for name, row in page:
            grouped.setdefault(name, []).append(row)
        return grouped, token


def _fields(row: WireRow, ending: str) -> set[str]:
    return {value for key, value in row.items() if key.endswith(ending)}


def _action_order(item: tuple[str, WireRow]) -> tuple[str, str]:
    return item[1]["process_date"], item[1].get("id", "")
