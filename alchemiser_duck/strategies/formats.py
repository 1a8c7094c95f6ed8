"""Read symbols in the format that a file's name ends in.

The Clojure-style DSL, Composer's JSON and SQL have files of their own; lists, tables and configs are read here.
"""

import csv
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from alchemiser_duck.errors import MalformedFile
from alchemiser_duck.strategies.clojure import strategy_sightings
from alchemiser_duck.strategies.composer import is_symphony, symphony_sightings
from alchemiser_duck.strategies.documents import read_json, read_yaml
from alchemiser_duck.strategies.locations import LocatedStr, SourceLocation, locator
from alchemiser_duck.strategies.sightings import Sighting

_LIST_KEYS = ("symbols", "tickers", "universe")
_COLUMNS = ("symbol", "ticker", "symbols", "tickers")


class UnknownShape(MalformedFile):
    """JSON or YAML that is sound and names no symbols."""

    def __init__(self, problem: str, location: SourceLocation) -> None:
        super().__init__(f"{location}: {problem}")
        self.problem = problem
        self.location = location


def files_with_symbols(path: Path) -> list[Path]:
    """List the files of a path: itself, or those of a folder.

    Raises:
        MalformedFile: a folder has no such file.
    """
    if not path.is_dir():
        return [path]
    visible = (file for file in path.rglob("*") if not any(p.startswith(".") for p in file.relative_to(path).parts))
    files = sorted(file for file in visible if file.suffix.lower() in _FORMATS and file.is_file())
    if not files:
        raise SourceLocation(path, 1, 1).malformed(f"no file in this folder ends in {', '.join(sorted(_FORMATS))}")
    return files


def file_sightings(path: Path, seen: set[Path]) -> Iterator[Sighting]:
    """Yield the symbols of a file and of the files it names.

    Each file is read once.

    Args:
        seen: resolved paths of the files read before; this one is added.

    Raises:
        MalformedFile: the file is not what its name says, or holds no symbol.
        UnknownShape: it is sound JSON or YAML about something else.
    """
    resolved, start, suffix = path.resolve(), SourceLocation(path, 1, 1), path.suffix.lower()
    if resolved in seen:
        return
    seen.add(resolved)
    if suffix not in _FORMATS:
        raise start.malformed(f"symbols are read from {', '.join(sorted(_FORMATS))}, not from {path.suffix or path}")
    text = _text_of(path)
    is_empty = suffix != ".sql"  # a query may be about every symbol
    document = _DOCUMENTS[suffix](text, path) if suffix in _DOCUMENTS else None
    sightings: Iterator[Sighting] = iter(())
    if isinstance(document, dict) and isinstance(names := document.get("files"), list):
        for name in names:
            yield from file_sightings(_beside(name, path), seen)
        is_empty = not names
    elif suffix in _DOCUMENTS:
        sightings = _document_sightings(document, start)
    else:
        sightings = _READERS[suffix](text, path)
    for sighting in sightings:
        is_empty = False
        yield sighting
    if is_empty:
        raise start.malformed("there is no symbol in this file; take it out, or check that it is complete")


def _text_of(path: Path) -> str:
    try:
        content = path.read_bytes()
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        line = content.count(b"\n", 0, problem.start) + 1
        column = problem.start - content.rfind(b"\n", 0, problem.start)
        raise SourceLocation(path, line, column).malformed("this is not UTF-8 text") from None
    except OSError as problem:
        raise SourceLocation(path, 1, 1).malformed(f"the file cannot be read: {problem.strerror}") from None


def _document_sightings(document: Any, start: SourceLocation) -> Iterator[Sighting]:
    if isinstance(document, dict) and (key := next((key for key in _LIST_KEYS if key in document), None)):
        return _list_sightings(document[key], start)
    if isinstance(document, list):
        return _list_sightings(document, start)
    if is_symphony(document):
        return symphony_sightings(document)
    shapes = 'a list of symbols, {"symbols": […]}, a strategy config {"files": […]} or a Composer symphony'
    raise UnknownShape(f"expected {shapes}", start)


def _list_sightings(items: Any, start: SourceLocation) -> Iterator[Sighting]:
    """Read a list of symbols, or of objects that have one."""
    location = start
    for item in items if isinstance(items, list) else [items]:
        symbol = item
        if isinstance(item, dict):
            symbol = next((item[key] for key in _COLUMNS if key in item), item)
        if not isinstance(symbol, LocatedStr):
            raise location.malformed(f"the list holds {symbol!r} after this place: expected symbols as text")
        location = symbol.location
        yield Sighting(symbol, location)


def _beside(name: Any, config: Path) -> Path:
    """Find a file beside its config, or somewhere in strategies/."""
    if not isinstance(name, LocatedStr):
        raise SourceLocation(config, 1, 1).malformed(f'"files" lists names of files, not {name!r}')
    folders = (config.parent, config.parent / "strategies", config.parent.parent / "strategies", config.parent.parent)
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    deeper = [
        file
        for folder in folders
        if folder.name == "strategies"
        for file in sorted(folder.rglob("*"))
        if file.as_posix().endswith(f"/{name}")
    ]
    if len(deeper) == 1:
        return deeper[0]
    if deeper:
        candidates = ", ".join(map(str, deeper))
        raise name.location.malformed(f"{str(name)!r} could be any of {candidates}: name its folder too")
    raise name.location.malformed(f"there is no file {str(name)!r} in {', '.join(map(str, folders))}")


def _sql_sightings(text: str, path: Path) -> Iterator[Sighting]:
    """Read the literals that are compared with a column `symbol`."""
    from alchemiser_duck.query.symbols_in_sql import NotSql, symbol_literals  # sqlglot takes 0.1 s to import

    locate = locator(path, text)
    try:
        literals = symbol_literals(text)
    except NotSql as problem:
        raise SourceLocation(path, problem.line, problem.column).malformed(f"this is not SQL: {problem}") from None
    return (Sighting(literal, locate(offset)) for literal, offset in literals)


def _text_sightings(text: str, path: Path) -> Iterator[Sighting]:
    """Read symbols between white space or commas; # begins a comment."""
    for number, line in enumerate(text.split("\n"), 1):
        for word in re.finditer(r"[^\s,;]+", line.split("#")[0]):
            yield Sighting(word.group(), SourceLocation(path, number, word.start() + 1))


def _csv_sightings(text: str, path: Path) -> Iterator[Sighting]:
    """Read the column symbol or ticker, or a single column."""
    rows = csv.reader(io.StringIO(text), strict=True)
    column: int | None = None
    try:
        for row in rows:
            if not any(cell.strip() for cell in row):
                continue
            location = SourceLocation(path, rows.line_num, 1)
            if column is None:
                names = [cell.strip().lower() for cell in row]
                column = next((names.index(name) for name in _COLUMNS if name in names), None)
                if column is not None:
                    continue
                if len(row) > 1:
                    raise location.malformed(f"no column is called {' or '.join(_COLUMNS)}: name one of them so")
                column = 0
            if column >= len(row):
                raise location.malformed(f"the row ends before column {column + 1}, where the symbol is")
            yield Sighting(row[column], location)
    except csv.Error as problem:
        raise SourceLocation(path, rows.line_num or 1, 1).malformed(f"this is not CSV: {problem}") from None


_DOCUMENTS: dict[str, Callable[[str, Path], Any]] = {
    **dict.fromkeys((".yaml", ".yml"), read_yaml),
    ".json": read_json,
}
_READERS: dict[str, Callable[[str, Path], Iterator[Sighting]]] = {
    **dict.fromkeys((".clj", ".cljs", ".cljc", ".edn"), strategy_sightings),
    ".sql": _sql_sightings,
    ".txt": _text_sightings,
    ".csv": _csv_sightings,
}
_FORMATS = _DOCUMENTS.keys() | _READERS.keys()
