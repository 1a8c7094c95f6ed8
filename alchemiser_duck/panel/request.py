"""A panel as it was asked for: indicators with checked parameters, their relation, symbols and lens."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from alchemiser_duck.errors import BadParameter, did_you_mean
from alchemiser_duck.lake.scan import BAR_VALUES, Scan
from alchemiser_duck.query.arguments import IndicatorRequest
from alchemiser_duck.query.catalogue import (
    AT_THE_END,
    IndicatorCall,
    SqlFile,
    code_words,
    files_named_in,
    indicator_file,
    relation_names,
)
from alchemiser_duck.query.literals import literal

BAR_COLUMNS = BAR_VALUES | {"is_final"}

DAILY_RELATIONS = ("bars", "bars_split", "bars_raw")
"""Relations with one row per session: a look-back in bars tells how many days to read."""


@dataclass(frozen=True)
class PanelRequest:
    """Indicators side by side, as they were asked for."""

    calls: tuple[IndicatorCall, ...]
    stems: tuple[str | None, ...]
    """what the columns of each call are named after; None means they keep their own names"""
    source: str
    symbols: tuple[str, ...] | None
    """None means all"""
    today: date
    """the last day to be seen"""
    as_of: date | None = None
    symbols_of_calls: tuple[frozenset[str], ...] | None = None
    """of each call, those that it is asked for; None means each is asked for all"""

    @property
    def names(self) -> str:
        """SQL that names what a query of these indicators needs of the layer."""
        return " ".join([self.source, AT_THE_END, *(call.file.name for call in self.calls)])

    @property
    def columns(self) -> frozenset[str] | None:
        """The columns of stored bars that the indicators may read; None means any."""
        if self.source not in DAILY_RELATIONS or not all(call.file.is_built_in for call in self.calls):
            return None
        return BAR_COLUMNS & code_words(file for file in files_named_in(self.names) if not file.is_relation)

    def scan(self, since: date | None) -> Scan:
        """The bars to read, from a day on."""
        return Scan(since, self.as_of, self.symbols, self.columns)


def indicator_calls(requests: Iterable[IndicatorRequest], folder: Path | None) -> tuple[IndicatorCall, ...]:
    """Write each indicator's parameters as SQL literals.

    Raises:
        UnknownIndicator: there is none of this name.
        BadParameter: a number of bars is negative.
    """
    calls = []
    for request in requests:
        file = indicator_file(request.name, folder)
        for parameter in sorted(_bar_counts(file) & request.parameters.keys()):
            value = request.parameters[parameter]
            if isinstance(value, int | float) and value < 0:
                raise BadParameter(f"{file.name}: {parameter} is a number of bars, got {value}")
        calls.append(IndicatorCall(file, {name: literal(value) for name, value in request.parameters.items()}))
    return tuple(calls)


def stem_of(call: IndicatorCall, *, is_repeated: bool) -> str:
    """Name the columns of a call after its indicator, with its parameters where it is repeated: `sma_50`."""
    values = call.arguments.values() if is_repeated else ()
    return "_".join([call.file.name, *(re.sub(r"\W+", "_", value.partition("::")[0].strip("'")) for value in values)])


def require_relation(source: str, folder: Path | None) -> str:
    """Return the name of a relation that indicators may read.

    Raises:
        BadParameter: there is no such relation.
    """
    relations = relation_names(folder)
    if source not in relations:
        raise BadParameter(f"there is no relation {source!r}{did_you_mean(str(source), relations)}")
    return source


def _bar_counts(file: SqlFile) -> frozenset[str]:
    """The parameters of a user's indicator that may not be negative; built-in ones keep their own bounds."""
    if file.is_built_in:
        return frozenset()
    from alchemiser_duck.query.look_back import bar_counts  # sqlglot is only needed for users' own files

    return bar_counts(file)
