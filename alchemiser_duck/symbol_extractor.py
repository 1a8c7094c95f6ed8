"""SymbolExtractor: the universe that strategies, queries and lists talk about.

    SymbolExtractor().extract(Path("strategies")).names    # ['SPY', 'TQQQ', …]

It reads strategies in the Clojure-style DSL (.clj, .edn), strategy configs and Composer symphonies (.json), lists
(.txt, .csv, .json, .yaml) and SQL (.sql: literals compared with `symbol`). Text that it cannot understand is an error
that names its location: a universe is never silently smaller than the files say.
"""

import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alchemiser_duck.bars import alpaca_symbol
from alchemiser_duck.settings import Settings
from alchemiser_duck.strategies.formats import UnknownShape, file_sightings, files_with_symbols
from alchemiser_duck.strategies.sightings import ExtractedSymbol, Extraction, IndicatorUse, LeftOut, Universe

if TYPE_CHECKING:
    from os import PathLike

__all__ = [
    "ExtractedSymbol",
    "Extraction",
    "IndicatorUse",
    "LeftOut",
    "SymbolExtractor",
    "alpaca_symbol",
    "configured_symbols",
    "strategy_requests",
]


class SymbolExtractor:
    """Reads symbols out of files. It holds no state: share it freely."""

    def extract(self, *paths: Path | str) -> Extraction:
        """Extract the symbols of files and folders.

        A folder means every file in it that symbols are read from. JSON and YAML files of a folder that are about
        something else (a manifest) are left out, with a note.

        Raises:
            MalformedFile: a path does not exist, a file is not what its name says, or holds no symbol.
        """
        universe, seen = Universe(), set[Path]()
        for path in map(Path, paths):
            for file in files_with_symbols(path):
                try:
                    universe.add(file_sightings(file, seen))
                except UnknownShape as problem:
                    if not path.is_dir():
                        raise
                    universe.left_out.append(LeftOut(file.name, problem.problem, problem.location))
        return universe.extraction()


def strategy_requests(path: "str | PathLike[str]") -> "list[Any] | Extraction":
    """Read what strategies ask for: a JSON list of requests, or files and folders of strategies.

    Returns:
        what `strategies.wanted.wanted_values` reads.

    Raises:
        MalformedFile: as `SymbolExtractor.extract` does.
    """
    path = Path(path)
    if path.is_file() and path.suffix.lower() == ".json":
        with suppress(ValueError):  # the extractor says where it breaks off
            rows = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(rows, list) and rows and all(isinstance(row, dict) and "indicators" in row for row in rows):
                return rows
    return SymbolExtractor().extract(path)


def configured_symbols(settings: Settings) -> list[str]:
    """List the universe that the environment names, each symbol once.

    ALCHEMISER_SYMBOLS come first, then the symbols of ALCHEMISER_STRATEGIES; empty where neither is set.

    Raises:
        MalformedFile: a strategy file cannot be read.
    """
    strategies = SymbolExtractor().extract(settings.strategies).names if settings.strategies else []
    return list(dict.fromkeys([*settings.symbols, *strategies]))
