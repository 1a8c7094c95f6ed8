"""Value objects: bars, quotes, and bars that were turned away.

Units: timestamps are UTC, prices USD per share, volumes shares.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from alchemiser_duck.errors import UnsupportedTimeframe

TIMEFRAMES = ("1Day",)


def require_timeframe(timeframe: str) -> None:
    """Raise UnsupportedTimeframe unless the lake holds bars of this timeframe."""
    if timeframe not in TIMEFRAMES:
        raise UnsupportedTimeframe(f"timeframe {timeframe!r} is not stored; the lake holds {', '.join(TIMEFRAMES)}")


@dataclass(frozen=True, slots=True)
class Bar:
    """One completed bar of one symbol."""

    symbol: str
    timestamp: datetime
    """Start of the bar, UTC. A daily bar starts at midnight in New York."""
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    """Last regular trade, USD per share. Decimals are the shortest that give the stored double back."""
    volume: int
    """Shares traded, extended hours included."""
    vwap: Decimal | None = None
    """Volume-weighted average price, where the vendor sent one."""
    trade_count: int | None = None


@dataclass(frozen=True, slots=True)
class Quote:
    """The newest bid and ask of one symbol."""

    symbol: str
    timestamp: datetime
    bid: Decimal
    ask: Decimal
    bid_size: Decimal
    ask_size: Decimal
    """Sizes as the vendor sends them (shares or round lots, depending on the feed)."""

    @property
    def mid(self) -> Decimal:
        """Halfway between bid and ask, USD per share."""
        return (self.bid + self.ask) / 2


@dataclass(frozen=True, slots=True)
class QuarantinedBar:
    """A bar that was not stored, and why."""

    symbol: str
    timestamp: datetime | None
    reason: str
