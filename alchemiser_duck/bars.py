"""Words that every folder uses: bars, quotes, bars that were turned away, timeframes and tickers.

Units: timestamps are UTC, prices USD per share, volumes shares.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from alchemiser_duck.errors import BadParameter, CryptoPair, UnsupportedTimeframe

TIMEFRAMES = ("1Day",)

TICKER = re.compile(r"[A-Z][A-Z0-9]{0,5}(?:[./-][A-Z]{1,4})?")
_CRYPTO = re.compile(
    r"[A-Z0-9]{2,6}(?://?|-)(?:USD|USDT|USDC|BTC|ETH|EUR)|(?:BTC|ETH|SOL|LTC|BCH|DOGE|AVAX|LINK|UNI)USD[TC]?"
)
FORMER = re.compile(r"([A-Z][A-Z0-9.]{0,9})-(\d{6})")
"""The series of a ticker's former owner, and the month in which the next one began: RNA-202602."""

_COMPOSER = re.compile(r"(?:(?P<kind>[A-Z]+)::)?(?P<ticker>.+?)(?P<quote>//USD)?")


def require_timeframe(timeframe: str) -> None:
    """Raise UnsupportedTimeframe unless the lake holds bars of this timeframe."""
    if timeframe not in TIMEFRAMES:
        raise UnsupportedTimeframe(f"timeframe {timeframe!r} is not stored; the lake holds {', '.join(TIMEFRAMES)}")


def alpaca_symbol(text: str) -> str:
    """Return a ticker in Alpaca's form.

    BRK/B and BRK-B are BRK.B, RNA-202602 is a former owner's series, Composer's EQUITIES::SPY//USD is SPY.

    Raises:
        CryptoPair: it is BTC/USD or the like.
        BadParameter: it is not a ticker.
    """
    if FORMER.fullmatch(text.strip().upper()):
        return text.strip().upper()
    parts = _COMPOSER.fullmatch(text.strip())
    kind, ticker = (parts.group("kind"), parts.group("ticker")) if parts else (None, "")
    if kind == "CRYPTO" or _CRYPTO.fullmatch(text.strip()):
        raise CryptoPair(f"{text!r} is a crypto pair; the lake holds stocks")
    if kind not in (None, "EQUITIES") or not TICKER.fullmatch(ticker):
        raise BadParameter(f"{text!r} is not a ticker; write it as Alpaca does, for example BRK.B")
    return re.sub("[/-]", ".", ticker)


def in_alpaca_form(text: str) -> str:
    """Return a ticker in Alpaca's form, in any case; and what is no ticker as it is."""
    try:
        return alpaca_symbol(text.upper())
    except BadParameter:
        return text


def storable(text: str) -> str:
    """Return a text without half surrogate pairs, which JSON may hold and UTF-8 may not."""
    return text.encode("utf-8", "replace").decode()


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
    """Shares traded, extended hours included; adjusted ones are rounded half up."""
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
    feed: str
    """sip: the best of all exchanges; iex: that exchange alone, mostly wider"""

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
    sent: str | None = None
    """the bar as it came, as JSON"""

    def __post_init__(self) -> None:
        for name in ("symbol", "reason", "sent"):
            if text := getattr(self, name):
                object.__setattr__(self, name, storable(text))


@dataclass(frozen=True, slots=True)
class AlteredBar:
    """A bar whose stored values are not those that came, or no longer those that were stored."""

    symbol: str
    timestamp: datetime
    reason: str
    sent: str
    """the values that are not stored, as JSON"""
