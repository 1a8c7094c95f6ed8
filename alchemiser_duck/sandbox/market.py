"""The market as a feed shows it at a moment."""

from datetime import date, datetime
from decimal import ROUND_HALF_UP, Decimal

from alchemiser_duck import exchange_calendar as calendar
from alchemiser_duck.sandbox.real_data import MarketData, WireRow, timestamp

ADJUSTMENTS = frozenset({"raw", "split", "dividend", "spin-off", "all"})


def visible_bars(data: MarketData, symbol: str, visible: datetime) -> list[WireRow]:
    """Return bars up to a moment; today's grows until the extended close."""
    today = calendar.new_york_date(visible)
    bars = data.bars.get(symbol, {})
    rows = [bars[session] for session in sorted(bars) if session < today]
    if calendar.is_session(today) and bars and visible >= calendar.session_open(today):
        opens, closes = calendar.session_open(today), calendar.session_close(today)
        flat = rows[-1]["c"] if rows else 1.0
        whole = bars.get(today) or {"o": flat, "h": flat, "l": flat, "c": flat, "v": 10_000, "n": 50, "vw": flat}
        if visible < closes:
            rows.append(_half_formed(whole, today, (visible - opens) / (closes - opens)))
        elif today in bars:
            extended = visible.astimezone(calendar.NEW_YORK).time() < calendar.EXTENDED_CLOSE
            rows.append(whole | ({"v": int(whole["v"] * 0.97), "n": int(whole["n"] * 0.97)} if extended else {}))
    return rows


def adjusted_bars(data: MarketData, symbol: str, kinds: set[str], visible: datetime) -> list[WireRow]:
    """Adjust bars before each ex-date as Alpaca does: two decimals, half up."""
    raw = rows = visible_bars(data, symbol, visible)
    if kinds & {"split", "all"}:
        for split in (row for kind in ("forward_splits", "reverse_splits") for row in data.actions.get(kind, ())):
            if split["symbol"] == symbol:
                ratio = split["old_rate"] / split["new_rate"]
                rows = _scaled(rows, split["ex_date"], ratio, 1 / ratio)
    if kinds & {"dividend", "all"}:
        for dividend in data.actions.get("cash_dividends", ()):
            ex_bar = next((row for row in raw if row["t"][:10] >= dividend["ex_date"]), None)
            if dividend["symbol"] == symbol and ex_bar:
                rows = _scaled(rows, dividend["ex_date"], ex_bar["c"] / (ex_bar["c"] + dividend["rate"]), 1)
    return rows


def _half_formed(whole: WireRow, session: date, part: float) -> WireRow:
    """Return today's bar halfway: half its move, part of its volume."""
    so_far = round((whole["o"] + whole["c"]) / 2, 2)
    return {
        "t": timestamp(session),
        "o": whole["o"],
        "h": max(whole["o"], so_far),
        "l": min(whole["o"], so_far),
        "c": so_far,
        "v": int(whole["v"] * part) + 1,
        "n": int(whole["n"] * part) + 1,
        "vw": so_far,
    }


def _scaled(rows: list[WireRow], ex_date: str, price: float, volume: float) -> list[WireRow]:
    def rounded(value: float) -> float:
        return float(Decimal(repr(value * price)).quantize(Decimal("0.01"), ROUND_HALF_UP))

    return [
        row | {key: rounded(row[key]) for key in ("o", "h", "l", "c", "vw")} | {"v": round(row["v"] * volume)}
        if row["t"][:10] < ex_date
        else row
        for row in rows
    ]
