"""Suspects that touch what is read: actions and moves that do not fit each other and that nobody has settled.

A refresh finds them in SQL and writes them into the metadata of the actions' object, so that a read sees them without
another request, and without reading a bar more.
"""

import json
import warnings
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any, Literal

from alchemiser_duck.errors import SuspectPrices

LABEL = "suspects"
"""The key of the actions' metadata, a JSON list."""

PENDING = "pending"
"""The suspicion of an action that counts once the run which brings its bars has ended."""

NAMED = 3
"""Suspects that a message names; it counts the others."""

OnSuspect = Literal["error", "warn", "ignore"]


class SuspectPricesWarning(UserWarning):
    """A corporate action that is likely to be wrong touches the prices that are handed out."""


@dataclass(frozen=True)
class Suspect:
    """An action or a move that does not fit; see corporate_action_suspects."""

    symbol: str
    session: date
    id: str | None
    suspicion: str

    def __str__(self) -> str:
        return f"{self.symbol} {self.session}: {self.suspicion}"


def encoded(suspects: Iterable[Suspect]) -> str:
    """Write suspects as metadata."""
    return json.dumps([asdict(suspect) for suspect in suspects], default=lambda value: value.isoformat())


def decoded(label: str | None) -> list[Suspect]:
    """Read suspects from metadata."""
    return [_suspect(values) for values in json.loads(label or "[]")]


def _suspect(values: dict[str, Any]) -> Suspect:
    return Suspect(**values | {"session": date.fromisoformat(values["session"])})


def watch(
    suspects: Iterable[Suspect],
    on_suspect: OnSuspect,
    symbols: Collection[str] | None,
    first: date | None,
    last: date,
) -> None:
    """Warn or stop where prices on both sides of a suspect are read together.

    Raises:
        SuspectPrices: there is one, and on_suspect is "error".
    """
    if on_suspect == "ignore":
        return
    touching = [
        suspect
        for suspect in suspects
        if (symbols is None or suspect.symbol in symbols)
        and suspect.session <= last
        and (first is None or suspect.session > first)
    ]
    if not touching:
        return
    named = "; ".join(map(str, touching[:NAMED]))
    others = f"; and {len(touching) - NAMED} more" if len(touching) > NAMED else ""
    message = (
        f"prices may be wrong: {named}{others}; to see why: alchemiser-duck actions suspects; to settle one: "
        f"alchemiser-duck actions accept {touching[0].symbol} {touching[0].session} --reason …"
    )
    if on_suspect == "error":
        raise SuspectPrices(message)
    warnings.warn(message, SuspectPricesWarning, stacklevel=5)
