"""Read the symbols of strategies in the Clojure-style DSL."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from alchemiser_duck.bars import TICKER
from alchemiser_duck.query.catalogue import built_in_files
from alchemiser_duck.strategies.s_expressions import Atom, Form, Group, read_forms
from alchemiser_duck.strategies.sightings import NO_USES, IndicatorUse, Sighting, Uses

_NAMED = frozenset({"defsymphony", "defstrategy", "group", "ns", "def", "defn", "let", "str", "println", "require"})
"""Forms whose texts are names and titles."""

_OTHER_INDICATORS = frozenset(
    {"moving-average-price", "exponential-moving-average-price", "relative-strength-index", "volatility"}
    | {"standard-deviation-price", "standard-deviation-return"}
)
"""Indicators that the DSL calls by another name than the layer."""


@cache
def _indicator_names() -> frozenset[str]:
    return _OTHER_INDICATORS | {file.name.replace("_", "-") for file in built_in_files() if file.is_indicator}


def strategy_sightings(text: str, path: Path) -> Iterator[Sighting]:
    """Yield the symbols of a strategy, outer forms first.

    An indicator of a filter or a weight counts for every asset inside it.

    Raises:
        MalformedFile: the text does not parse, or a form lacks its symbol.
    """
    pending: list[tuple[Form, Uses]] = [(form, NO_USES) for form in reversed(read_forms(text, path))]
    while pending:
        form, uses = pending.pop()
        if isinstance(form, Atom) or form.head == "comment":
            continue
        if form.head.startswith(("filter", "weight-")):
            uses |= _use_of_every_asset(form)
        elif form.head and form.head not in _NAMED:
            yield from _symbol_of_call(form, uses)
        pending += [(item, uses) for item in reversed(form.items)]


def _symbol_of_call(form: Group, uses: Uses) -> Iterator[Sighting]:
    """Read the symbol of (asset "SPY" …) or (rsi "SPY" …)."""
    first = form.items[1] if len(form.items) > 1 else None
    text = first if isinstance(first, Atom) and first.kind == "string" else None
    window = _window(form)
    is_indicator = form.head in _indicator_names() or window is not None
    if window is None and is_indicator and len(form.items) > 2:
        window = _number(form.items[2])  # (rsi "SPY" 14)
    if form.head == "asset" or is_indicator:
        if text:
            own = uses if form.head == "asset" else frozenset({IndicatorUse(form.head, window)})
            yield Sighting(text.text, text.location, own)
        elif form.head == "asset" or (isinstance(first, Atom) and first.kind == "name"):
            raise form.location.malformed(
                f'({form.head} …) takes a symbol as text first, for example ({form.head} "SPY" …)'
            )
    elif text and TICKER.fullmatch(text.text):
        raise form.location.malformed(
            f'({form.head} "{text.text}" …) is not known: if "{text.text}" is a symbol, use asset or an indicator '
            "with {:window n}; if it is a name, use group"
        )


def _use_of_every_asset(form: Group) -> Uses:
    """Read (filter (rsi {:window 10}) …) or (weight-inverse-volatility 20 …)."""
    first = form.items[1] if len(form.items) > 1 else None
    if isinstance(first, Group) and first.head in _indicator_names():
        argument = first.items[1] if len(first.items) > 1 else None
        if isinstance(argument, Atom) and argument.kind == "string":
            return NO_USES
        return frozenset({IndicatorUse(first.head, _window(first) or _number(argument))})
    if form.head.startswith("weight-inverse-vol") and (window := _window(form) or _number(first)):
        return frozenset({IndicatorUse(form.head, window)})
    return NO_USES


def _window(form: Group) -> int | None:
    """Read the number in {:window n} among a form's arguments."""
    for item in form.items[1:]:
        if isinstance(item, Group) and item.kind == "map":
            for key, value in zip(item.items[::2], item.items[1::2], strict=True):
                if isinstance(key, Atom) and key.text == ":window":
                    number = _number(value)
                    if number is None:
                        raise value.location.malformed(":window takes a number of bars")
                    return number
    return None


def _number(form: Form | None) -> int | None:
    if isinstance(form, Atom) and re.fullmatch(r"[1-9]\d{0,5}", form.text):
        return int(form.text)
    return None
