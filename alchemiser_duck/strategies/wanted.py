"""Reads which values strategies ask for: (symbol, indicator, parameters), each once.

They come as what SymbolExtractor found, or as Python and JSON: {"SPY": {"rsi": [10, 14]}}, or the same as a list of
{"symbol": "SPY", "indicators": {"rsi": [10, 14]}}.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from alchemiser_duck.bars import alpaca_symbol
from alchemiser_duck.errors import BadParameter
from alchemiser_duck.strategies.sightings import Extraction

INDICATORS = {
    "moving-average-price": "sma",
    "exponential-moving-average-price": "ema",
    "relative-strength-index": "rsi",
    "moving-average-return": "moving_average_return",
    "standard-deviation-return": "stdev_return",
    "stdev-return": "stdev_return",
    "standard-deviation-price": "stdev_price",
    "stdev-price": "stdev_price",
    "cumulative-return": "cumulative_return",
    "max-drawdown": "max_drawdown",
    "current-price": "current_price",
    "volatility": "stdev_return",
    "weight-inverse-volatility": "stdev_return",
    "wt-inverse-vol": "stdev_return",
}
"""Names in strategy files: those of the layer."""

Wanted = tuple[str, str, Mapping[str, Any]]
"""A symbol in Alpaca's form, an indicator, its parameters."""

_EXAMPLE = 'for example: {"SPY": {"rsi": [10, 14], "current_price": []}}, or a folder of strategies'


def wanted_values(requests: Any) -> list[Wanted]:
    """Return what is asked for, each value once, in the order of the request.

    Args:
        requests: an Extraction, or a list or mapping as above. A window counts bars and is the parameter n; an
            empty list, None or {} asks for the indicator as it is without parameters.

    Raises:
        BadParameter: it is nothing of this kind.
    """
    distinct = {
        (symbol, name, json.dumps(parameters, sort_keys=True, default=str)): (symbol, name, parameters)
        for symbol, name, parameters in _values_in(requests)
    }
    return list(distinct.values())


def _values_in(requests: Any) -> Iterator[Wanted]:
    if isinstance(requests, Extraction):
        for extracted in requests.symbols:
            for use in extracted.indicators:
                name = INDICATORS.get(use.name, use.name.replace("-", "_"))
                yield extracted.symbol, name, {} if use.window is None else {"n": use.window}
    elif isinstance(requests, Mapping):
        for symbol, indicators in requests.items():
            yield from _of_symbol(symbol, indicators)
    elif isinstance(requests, Iterable):
        for row in requests:
            if not isinstance(row, Mapping) or not row.keys() >= {"symbol", "indicators"}:
                raise BadParameter(f"a request names a symbol and its indicators, not {row!r}; {_EXAMPLE}")
            yield from _of_symbol(row["symbol"], row["indicators"])
    else:
        raise BadParameter(f"requests are symbols with their indicators, not {requests!r}; {_EXAMPLE}")


def _of_symbol(symbol: Any, indicators: Any) -> Iterator[Wanted]:
    if not isinstance(symbol, str):
        raise BadParameter(f"{symbol!r} is not a symbol; {_EXAMPLE}")
    if not isinstance(indicators, Mapping):
        raise BadParameter(f"{symbol}: indicators go by name, not {indicators!r}; {_EXAMPLE}")
    for name, windows in indicators.items():
        for parameters in _parameter_sets(windows, f"{symbol}: {name}"):
            yield alpaca_symbol(symbol), INDICATORS.get(str(name), str(name)), parameters


def _parameter_sets(windows: Any, what: str) -> Iterator[Mapping[str, Any]]:
    if windows is None or (isinstance(windows, Iterable) and not windows):
        yield {}
    elif isinstance(windows, Mapping):
        yield windows
    elif isinstance(windows, Iterable) and not isinstance(windows, str):
        for window in windows:
            yield from _parameter_sets(window, what)
    elif isinstance(windows, int) and not isinstance(windows, bool):
        yield {"n": windows}
    else:
        raise BadParameter(f"{what} takes windows in bars or parameters by name, not {windows!r}; {_EXAMPLE}")
