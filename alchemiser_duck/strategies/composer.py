"""Read the symbols of Composer's symphonies."""

import re
from collections.abc import Iterator
from typing import Any

from alchemiser_duck.strategies.locations import LocatedStr, SourceLocation
from alchemiser_duck.strategies.sightings import NO_USES, IndicatorUse, Sighting, Uses


def is_symphony(value: Any) -> bool:
    """Return whether a JSON object has steps, as a symphony does."""
    return isinstance(value, dict) and any("step" in part for part in _mappings(value))


def symphony_sightings(symphony: Any) -> Iterator[Sighting]:
    """Yield the tickers of assets and the symbols that conditions compare.

    Raises:
        MalformedFile: an asset has no ticker.
    """
    pending: list[tuple[Any, Uses]] = [(symphony, NO_USES)]
    while pending:
        value, uses = pending.pop()
        if isinstance(value, list):
            pending += [(item, uses) for item in value]
        if not isinstance(value, dict):
            continue
        if value.get("step") == "asset":
            if not isinstance(ticker := value.get("ticker"), LocatedStr):
                raise _first_location(value).malformed('an asset needs a "ticker"')
            yield Sighting(ticker, ticker.location, uses)
        for side in ("lhs", "rhs"):
            is_fixed = str(value.get(f"{side}-fixed-value?", "")).lower() == "true"
            symbol = value.get(f"{side}-val")
            if f"{side}-fn" in value and isinstance(symbol, LocatedStr) and not is_fixed:
                yield Sighting(symbol, symbol.location, frozenset({_use(value, side)}))
        if value.get("step") == "wt-inverse-vol" and (window := _number(value.get("window-days"))) is not None:
            uses |= {IndicatorUse("wt-inverse-vol", window)}
        if "sort-by-fn" in value:
            uses |= {_use(value, "sort-by")}
        pending += [(part, uses) for part in value.values()]


def _use(step: dict[str, Any], side: str) -> IndicatorUse:
    parameters = step.get(f"{side}-fn-params")
    window = parameters.get("window") if isinstance(parameters, dict) else step.get(f"{side}-window-days")
    return IndicatorUse(str(step[f"{side}-fn"]), _number(window))


def _number(value: Any) -> int | None:
    return int(str(value)) if re.fullmatch(r"\d{1,6}", str(value)) else None


def _mappings(value: Any) -> Iterator[dict[str, Any]]:
    pending = [value]
    while pending:
        part = pending.pop()
        if isinstance(part, dict):
            yield part
            pending += part.values()
        elif isinstance(part, list):
            pending += part


def _first_location(value: dict[str, Any]) -> SourceLocation:
    return next(text.location for part in _mappings(value) for text in part.values() if isinstance(text, LocatedStr))
