"""Read symbols, days, periods, parameters and calls as people type them.

One function per kind, for every door: the adapter, the store and the command line take the same spellings and refuse
the same mistakes. `as_symbols("aapl, brk-b")` is `("AAPL", "BRK.B")`, `as_period("6mo")` is `"6M"`, and
`as_calls(["sma(50)"])` is `sma` with `{"n": 50}`. Numpy, pandas and polars are met by what their values can do; none of
them is imported.
"""

import math
import re
from collections.abc import Iterable, Mapping
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

from alchemiser_duck.bars import alpaca_symbol, require_timeframe
from alchemiser_duck.errors import BadParameter, BadPeriod, CryptoPair, did_you_mean
from alchemiser_duck.exchange_calendar import NEW_YORK
from alchemiser_duck.query.catalogue import SqlFile, indicator_file
from alchemiser_duck.query.literals import Scalar

_STORED_NAME = re.compile(r"[A-Z0-9][A-Z0-9._]{0,19}")
"""Names of symbols that are no tickers and still have bars: CUSIPs and the like."""

_PERIOD = re.compile(
    r"([1-9]\d{0,3})\s*(?:(Y|YR|YRS|YEARS?)|(M|MO|MOS|MONTHS?)|(W|WK|WKS|WEEKS?)|(D|DAYS?))", re.IGNORECASE
)
_DAILY = frozenset({"1day", "1d", "day", "d", "daily"})
_REGULAR_CLOSE = time(16)

_CALL = re.compile(r"\s*([A-Za-z_]\w*)\s*(?:\((.*)\))?\s*", re.DOTALL)
_ARGUMENT = re.compile(r"""\s*(?:([A-Za-z_]\w*)\s*:?=)?\s*('(?:[^']|'')*'|"(?:[^"]|"")*"|[^\s,'"()=:]+)\s*(?:,|\Z)""")
_WORDS: Mapping[str, bool | None] = {"true": True, "false": False, "null": None, "none": None}


class IndicatorRequest(NamedTuple):
    """An indicator with its parameters, as a caller asks for it."""

    name: str
    parameters: dict[str, Scalar]
    is_repeated: bool = False
    """it may be asked for several times, so that its parameters belong into its column's name: `sma_50`"""


def as_symbols(value: Any) -> tuple[str, ...] | None:
    """Return symbols in Alpaca's form, each once, in their order.

    A set has no order: its symbols are sorted.

    Args:
        value: "AAPL", "AAPL,IBM", or any iterable of texts or of objects that print as a ticker: a list, a generator,
            a pandas or polars Series, a numpy array. None means every symbol and stays None.

    Returns:
        ("AAPL", "BRK.B") for "aapl, brk-b"; () for an empty iterable.

    Raises:
        CryptoPair: one of them is BTC/USD or the like.
        BadParameter: one of them is not a symbol, or a text names none.
    """
    value = _plain(value)
    if value is None:
        return None
    if isinstance(value, bytes | Mapping) or hasattr(value, "columns"):
        raise BadParameter(f"symbols are tickers, for example ['AAPL', 'BRK.B'], not {type(value).__name__}")
    items = [value] if isinstance(value, str) or not isinstance(value, Iterable) else list(value)
    symbols = [symbol for item in items for symbol in _symbols_in(item)]
    return tuple(dict.fromkeys(sorted(symbols) if isinstance(value, set | frozenset) else symbols))


def one_symbol(value: Any) -> str:
    """Return the one symbol that a value names, in Alpaca's form.

    Raises:
        BadParameter: it names none, or several.
    """
    symbols = as_symbols(value)
    if symbols is None or len(symbols) != 1:
        raise BadParameter(f"one symbol is asked for, for example 'AAPL': got {value!r}")
    return symbols[0]


def as_day(value: Any, name: str) -> date:
    """Return the session that a value names.

    An instant (a datetime with a zone) is its date in New York where it is midnight there, as bars are stamped, or
    where that day's session is over, from 16:00 on: 2024-03-02T00:00Z is the session of 2024-03-01. Any other instant
    is refused, because the bar of its session would come from its future.

    Args:
        value: a date, '2024-01-31', a datetime at midnight, an instant as above; also numpy's, pandas' and Arrow's.
        name: what the argument is called, for the error.

    Raises:
        BadParameter: it names no day, or a time at which its session is not over.
    """
    original, value = value, _plain(value)
    if isinstance(value, datetime) and value.tzinfo is not None:
        instant = value.astimezone(NEW_YORK)
        if instant.time() == time(0) or instant.time() >= _REGULAR_CLOSE:
            return instant.date()
        raise BadParameter(
            f"{name} {value.isoformat()} is before the close of its session in New York: type the session that you "
            f"mean, {instant.date()} or an earlier one"
        )
    if isinstance(value, datetime):
        if value.time() == time(0):
            return value.date()
        raise BadParameter(f"{name} is a session, a date without a time: got {value.isoformat()}; type {value.date()}")
    if isinstance(value, date):
        return value
    try:
        return date.fromisoformat(value.strip())
    except (AttributeError, ValueError):
        raise BadParameter(f"{name} {original!r} is not a date; for example: 2024-01-31") from None


def as_period(value: Any) -> str:
    """Return a calendar span as <n>Y, <n>M, <n>W, <n>D or MAX.

    "1y" is 1Y, "6mo" is 6M, "90 days" is 90D.

    Raises:
        BadPeriod: it is none.
    """
    text = value.strip() if isinstance(value, str) else ""
    if text.upper() == "MAX":
        return "MAX"
    span = _PERIOD.fullmatch(text)
    if not span:
        raise BadPeriod(f"period {value!r} is not <n>Y, <n>M, <n>W, <n>D or MAX; for example: 1Y")
    unit = "YMWD"[next(place for place, word in enumerate(span.groups()[1:]) if word)]
    return span.group(1) + unit


def as_timeframe(value: Any) -> str:
    """Return a timeframe as Alpaca writes it: 1D, day and daily are 1Day.

    Raises:
        UnsupportedTimeframe: the lake holds no such bars.
    """
    text = str(value).strip()
    timeframe = "1Day" if text.lower() in _DAILY else text
    require_timeframe(timeframe)
    return timeframe


def as_parameter(value: Any, name: str = "a parameter") -> Scalar:
    """Return a parameter as a plain number, text, boolean or date.

    Numpy's numbers become Python's, Decimal("2.5") becomes 2.5, Decimal("14") becomes 14.

    Raises:
        BadParameter: it is something else, not finite, or a time without a zone.
    """
    value = _plain(value)
    if isinstance(value, Decimal) and value.is_finite():
        value = int(value) if value == value.to_integral_value() else float(value)
    match value:
        case None | bool():
            return value
        case int():
            return int(value)
        case float() if math.isfinite(value):
            return float(value)
        case str() if "\0" not in value and _is_unicode(value):
            return str.__str__(value)
        case datetime() if value.tzinfo is not None:
            return value
        case date() if not isinstance(value, datetime):
            return value
    shown = " ".join(repr(value).split())  # that of a Series takes several lines
    raise BadParameter(f"{name} is {shown[:80]}: parameters are numbers, texts, true, false and dates")


def as_calls(indicators: Any, folder: Path | None = None) -> list[IndicatorRequest]:
    """Return the indicators that are asked for, in their order.

    Args:
        indicators: "rsi", "sma(50)", a list of such texts, or a mapping from names to parameters: {"rsi": {"n": 14},
            "sma": [{"n": 50}, {"n": 200}]}. Names and parameters in any case.
        folder: the user's own .sql files.

    Raises:
        UnknownIndicator: there is none of this name.
        BadParameter: it is nothing of this kind, or a parameter is unknown.
    """
    example = 'for example: {"rsi": {"n": 14}, "sma": [{"n": 50}, {"n": 200}]} or ["rsi", "sma(50)"]'
    if isinstance(indicators, Mapping):
        requests = []
        for name, sets in indicators.items():
            is_single = isinstance(sets, Mapping | None)
            if isinstance(sets, str) or not isinstance(sets, Iterable | None):
                raise BadParameter(f"{name!r} takes its parameters by name, not {sets!r}; {example}")
            file = _indicator(name, folder)
            for parameters in [sets] if is_single or sets is None else sets:
                if not isinstance(parameters, Mapping | None):
                    raise BadParameter(f"{name!r} takes its parameters by name, not {parameters!r}; {example}")
                bound = _bound(file, (), parameters or {})
                requests.append(IndicatorRequest(file.name, bound, not is_single))
        return requests
    texts = [indicators] if isinstance(indicators, str) else indicators
    if not isinstance(texts, Iterable):
        raise BadParameter(f"indicators are names with parameters, not {indicators!r}; {example}")
    calls = [parse_call(text) for text in texts]
    files = [_indicator(name, folder) for name, _, _ in calls]
    names = [file.name for file in files]
    return [
        IndicatorRequest(file.name, _bound(file, positional, named), names.count(file.name) > 1)
        for file, (_, positional, named) in zip(files, calls, strict=True)
    ]


def parse_call(text: Any) -> tuple[str, tuple[Scalar, ...], dict[str, Scalar]]:
    """Read an indicator's call: "sma(50)", "rsi(n=14)", "ma(20, kind := 'ema')", "rsi".

    A value is a number, a quoted text, true, false or null; any other word is a text.

    Returns:
        the name in lower case, the values without a name, and those with one.

    Raises:
        BadParameter: it is not a call.
    """
    call = _CALL.fullmatch(text) if isinstance(text, str) else None
    if call is None:
        raise BadParameter(f"{text!r} is not an indicator's call; for example: rsi, sma(50), rsi(n=14)")
    name, inside = call.group(1).lower(), (call.group(2) or "").strip()
    positional: list[Scalar] = []
    named: dict[str, Scalar] = {}
    place = 0
    while place < len(inside):
        argument = _ARGUMENT.match(inside, place)
        if argument is None or (argument.end() == len(inside) and inside.endswith(",")):
            raise BadParameter(
                f"{text!r}: {inside[place:]!r} is not a parameter; for example: {name}(14) or {name}(n=14)"
            )
        parameter, value = argument.groups()
        if parameter is None and named:
            raise BadParameter(f"{text!r}: {value} stands behind a parameter with a name: name it too")
        if parameter is None:
            positional.append(value_of(value))
        elif parameter.lower() in named:
            raise BadParameter(f"{text!r} gives {parameter} twice")
        else:
            named[parameter.lower()] = value_of(value)
        place = argument.end()
    return name, tuple(positional), named


def split_calls(text: str) -> list[str]:
    """Split "sma(50), bbands(20, 2, 2)" at the commas between calls."""
    parts = re.findall(r"(?:[^,()]|\([^()]*\)|[()])+", text)
    return [part.strip() for part in parts if part.strip()] or [text]


def value_of(text: str) -> Scalar:
    """Read a value as it is typed: 14, 2.5, true, null, 'a text' or a bare word.

    Raises:
        BadParameter: it is a number that is not finite.
    """
    if len(text) > 1 and text[0] in "'\"" and text[0] == text[-1]:
        return text[1:-1].replace(text[0] * 2, text[0])
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if re.fullmatch(r"[+-]?\d+", text):
        return int(text)
    if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", text, re.IGNORECASE):
        return as_parameter(float(text), text)
    return text


def _symbols_in(item: Any) -> list[str]:
    if isinstance(item, Enum):
        item = item.value
    if item is None or isinstance(item, bool | int | float | bytes | date):
        raise BadParameter(f"symbols are tickers, for example ['AAPL', 'BRK.B']: {item!r} is not one")
    text = str.__str__(item) if isinstance(item, str) else str(item)
    words = re.split(r"[\s,;]+", text.strip(" \t\r\n,;"))
    if words == [""]:
        raise BadParameter(f"symbols are tickers, for example ['AAPL', 'BRK.B']: {item!r} names none")
    return [_symbol(word, item) for word in words]


def _symbol(word: str, item: Any) -> str:
    upper = word.upper()
    try:
        return alpaca_symbol(upper)
    except CryptoPair:
        raise
    except BadParameter:
        if _STORED_NAME.fullmatch(upper):
            return upper
        raise BadParameter(f"symbols are tickers, for example ['AAPL', 'BRK.B']: {item!r} is not one") from None


def _plain(value: Any) -> Any:
    """Return the Python value of a scalar of numpy, pandas or Arrow."""
    if isinstance(value, Enum):
        return value.value
    if hasattr(value, "as_py"):
        return value.as_py()
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        item = value.item()
        if isinstance(item, int) and str(value.dtype).startswith("datetime64"):  # in nanoseconds
            return value.astype("datetime64[us]").item()
        return item
    if isinstance(value, datetime) and value != value:  # pandas' NaT
        return None
    return value


def _indicator(name: Any, folder: Path | None) -> SqlFile:
    if not isinstance(name, str):
        raise BadParameter(f"an indicator's name is a text, for example 'rsi': got {name!r}")
    return indicator_file(name.strip(), folder)


def _bound(file: SqlFile, positional: tuple[Scalar, ...], named: Mapping[str, Any]) -> dict[str, Scalar]:
    """Return the parameters by the names that the file gives them."""
    known = {name.lower(): name for name in file.parameters if name.lower() != "source"}
    if len(positional) > len(known):
        raise BadParameter(f"{file.name} takes {', '.join(known) or 'no parameter'}: got {len(positional)} values")
    bound = dict(zip(known.values(), positional, strict=False))
    for name, value in named.items():
        if str(name).lower() == "source":
            raise BadParameter(f"{file.name}: source is an argument of its own, one for all indicators")
        if str(name).lower() not in known:
            near = did_you_mean(str(name), known)
            raise BadParameter(f"{file.name} has no parameter {name}{near}; it takes {file.signature}")
        parameter = known[str(name).lower()]
        if parameter in bound:
            raise BadParameter(f"{file.name} is given {parameter} twice")
        bound[parameter] = value
    return {name: _fitting(file, name, value) for name, value in bound.items()}


def _fitting(file: SqlFile, name: str, value: Any) -> Scalar:
    """Return a parameter's value; one whose default is a number must be a number."""
    scalar, default = as_parameter(value, f"{file.name}: {name}"), file.parameters[name]
    is_number = isinstance(scalar, int | float) and not isinstance(scalar, bool)
    if re.fullmatch(r"-?\d+(\.\d+)?", default) and not is_number:
        raise BadParameter(f"{file.name}: {name} is a number, for example {default}: got {value!r}")
    return scalar


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
