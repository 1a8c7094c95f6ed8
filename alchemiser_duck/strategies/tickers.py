"""Tell tickers in Alpaca's form from crypto pairs and from other text."""

import re

from alchemiser_duck.errors import BadParameter, CryptoPair

TICKER = re.compile(r"[A-Z][A-Z0-9]{0,5}(?:[./-][A-Z]{1,4})?")
_CRYPTO = re.compile(
    r"[A-Z0-9]{2,6}(?://?|-)(?:USD|USDT|USDC|BTC|ETH|EUR)|(?:BTC|ETH|SOL|LTC|BCH|DOGE|AVAX|LINK|UNI)USD[TC]?"
)
_COMPOSER = re.compile(r"(?:(?P<kind>[A-Z]+)::)?(?P<ticker>.+?)(?P<quote>//USD)?")


def alpaca_symbol(text: str) -> str:
    """Return a ticker in Alpaca's form.

    BRK/B and BRK-B are BRK.B, Composer's EQUITIES::SPY//USD is SPY.

    Raises:
        CryptoPair: it is BTC/USD or the like.
        BadParameter: it is not a ticker.
    """
    parts = _COMPOSER.fullmatch(text.strip())
    kind, ticker = (parts.group("kind"), parts.group("ticker")) if parts else (None, "")
    if kind == "CRYPTO" or _CRYPTO.fullmatch(text.strip()):
        raise CryptoPair(f"{text!r} is a crypto pair; the lake holds stocks")
    if kind not in (None, "EQUITIES") or not TICKER.fullmatch(ticker):
        raise BadParameter(f"{text!r} is not a ticker; write it as Alpaca does, for example BRK.B")
    return re.sub("[/-]", ".", ticker)
