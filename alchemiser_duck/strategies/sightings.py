"""Sightings of symbols, and the universe that they add up to."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from alchemiser_duck.bars import alpaca_symbol
from alchemiser_duck.errors import BadParameter, CryptoPair
from alchemiser_duck.strategies.locations import SourceLocation


@dataclass(frozen=True, slots=True, order=True)
class IndicatorUse:
    """An indicator that a strategy computes, named as the strategy names it."""

    name: str
    window: int | None = None
    """bars; None means that it has no window"""

    def __str__(self) -> str:
        return self.name if self.window is None else f"{self.name}({self.window})"


Uses = frozenset[IndicatorUse]
NO_USES: Uses = frozenset()


@dataclass(frozen=True, slots=True)
class Sighting:
    """A text that stands where a file names a symbol."""

    text: str
    location: SourceLocation
    uses: Uses = NO_USES


@dataclass(frozen=True)
class ExtractedSymbol:
    """One symbol in Alpaca's form, with its sightings and its indicators."""

    symbol: str
    places: tuple[SourceLocation, ...]
    indicators: tuple[IndicatorUse, ...]

    @property
    def bars_needed(self) -> int:
        """Count the longest window's bars: n changes take n + 1."""
        return 1 + max((use.window or 0 for use in self.indicators), default=0)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A text or file that is not about stocks, and the reason."""

    text: str
    reason: str
    place: SourceLocation

    def __str__(self) -> str:
        return f"{self.place}: {self.text} is left out: {self.reason}"


@dataclass(frozen=True)
class Extraction:
    """The symbols of some files, sorted, and what was left out."""

    symbols: tuple[ExtractedSymbol, ...]
    left_out: tuple[LeftOut, ...]

    @property
    def names(self) -> list[str]:
        """Return the symbols alone, sorted."""
        return [extracted.symbol for extracted in self.symbols]


@dataclass
class Universe:
    """Collects sightings, file by file."""

    locations: dict[str, set[SourceLocation]] = field(default_factory=dict)
    uses: dict[str, set[IndicatorUse]] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)

    def add(self, sightings: Iterable[Sighting]) -> None:
        """Take in sightings; crypto pairs are left out.

        Raises:
            MalformedFile: a text is not a ticker.
        """
        for sighting in sightings:
            try:
                symbol = alpaca_symbol(sighting.text)
            except CryptoPair as problem:
                self.left_out.append(LeftOut(sighting.text, str(problem), sighting.location))
            except BadParameter as problem:
                raise sighting.location.malformed(str(problem)) from None
            else:
                self.locations.setdefault(symbol, set()).add(sighting.location)
                self.uses.setdefault(symbol, set()).update(sighting.uses)

    def extraction(self) -> Extraction:
        """Return the symbols seen so far, sorted."""
        symbols = (
            ExtractedSymbol(symbol, tuple(sorted(locations)), tuple(sorted(self.uses[symbol], key=str)))
            for symbol, locations in sorted(self.locations.items())
        )
        return Extraction(tuple(symbols), tuple(self.left_out))
