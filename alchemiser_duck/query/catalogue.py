"""List the .sql files of the layer and read their headers.

`sql/init.sql` names every file once, in the order of their dependencies, for the shell and for Python alike:
`.read sql/stages/true_ranges.sql` stands before `.read sql/indicators/atr.sql`, which reads `true_ranges`.
"""

import re
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

from alchemiser_duck.errors import SettingsError, UnknownIndicator, did_you_mean
from alchemiser_duck.query.literals import identifier, literal

KEYS = ("symbol", "timestamp")
"""The first columns of every indicator."""
BARS_BEFORE = "bars_before"
"""The column with the number of bars before a row among those that were read: 0 on a symbol's first."""
UNSETTLED = -1
"""BARS_BEFORE where more than a look-back must be read: history decides the value."""

STILL_BARS = 10
"""Bars without a move at the end of a history that a look-back has room for: two weeks of a halt."""

DEEP_FALL = 100
"""A price that was so many times today's still weighs something after a look-back, which is relative to today's."""

PRICES = frozenset({"close", "high", "low"})
"""Columns whose moves tell whether a look-back decides a value."""

AT_THE_END = "final_decayed_sum"
"""The function that the newest row of every panel needs."""

_READ = re.compile(r"^\.read sql/(\S+)$", re.MULTILINE)
_SIGNATURE = re.compile(
    r"^\s*create\s+or\s+replace\s+macro\s+\w+\s*\((?P<parameters>[^()]*)\)\s*as\s+(?P<table>table\b)?",
    re.MULTILINE | re.IGNORECASE,
)
_BODY = re.compile(r"\) as (?:table )?\((.*?)\n\);", re.DOTALL)
_NOT_NAMES = re.compile(r"^\s*--.*$|^comment on .*$|'[^'\n]*/[^'\n]*'", re.MULTILINE)
"""Comments, and paths of objects."""
_CATALOGUE_NAMES = ("duckdb_", "information_schema", "pg_", "pragma_", "sqlite_")
_DESCRIPTION = re.compile(r"^-- \w+: (.+)$", re.MULTILINE)
_ALLOWS_LOOK_AHEAD = re.compile(r"^-- allows look-ahead:[ \t]*(\S.*?)[ \t]*$", re.MULTILINE)
_LOOK_BACK = re.compile(r"^-- look-back:[ \t]*(\S.*?)[ \t]*$", re.MULTILINE)


@cache
def sql_root() -> Path:
    """Return the folder of the .sql files: in the package or beside it."""
    package = Path(__file__).parent.parent
    return next(folder for folder in (package / "sql", package.parent / "sql") if folder.is_dir())


@dataclass(frozen=True)
class SqlFile:
    """A .sql file defines what it is named after."""

    path: Path
    text: str

    @cached_property
    def name(self) -> str:
        """The file's name in lower case, as DuckDB compares names."""
        return self.path.stem.lower()

    @cached_property
    def is_built_in(self) -> bool:
        """True for a file of the layer itself."""
        return _built_in_by_name().get(self.name) == self

    @cached_property
    def _signature(self) -> re.Match[str] | None:
        return _SIGNATURE.search(self.text)

    @property
    def is_indicator(self) -> bool:
        """True for a table macro that is neither a relation's helper nor a stage of other indicators."""
        return self.is_table_macro and self.path.parent != sql_root() / "relations" and not self.is_stage

    @property
    def is_stage(self) -> bool:
        """True for what the indicators of one family have in common."""
        return self.path.parent == sql_root() / "stages"

    @property
    def is_table_macro(self) -> bool:
        """True where the file defines a table macro."""
        return self._signature is not None and self._signature.group("table") is not None

    @property
    def is_function(self) -> bool:
        """True where the file defines a scalar macro: a formula that indicators share."""
        return self._signature is not None and self._signature.group("table") is None

    @property
    def is_relation(self) -> bool:
        """True where the file defines a view, which a `source` can name."""
        return self._signature is None

    @property
    def parameters(self) -> dict[str, str]:
        """The macro's parameters and their defaults as SQL text."""
        listed = self._signature.group("parameters") if self._signature else ""
        pairs = (part.partition(":=") for part in listed.split(","))
        return {name.strip(): default.strip() or "null" for name, _, default in pairs if name.strip()}

    @property
    def body(self) -> str:
        """The body of a built-in macro: an expression or a SELECT over its parameters."""
        body = _BODY.search(self.text)
        return body.group(1) if body else "null"

    @property
    def signature(self) -> str:
        """The parameters with their defaults: `n := 20, source := 'bars'`."""
        return ", ".join(f"{name} := {default}" for name, default in self.parameters.items())

    @property
    def description(self) -> str:
        """The header's first line, without the name; empty where there is none."""
        return _header(_DESCRIPTION, self.text) or ""

    @property
    def allows_look_ahead(self) -> str | None:
        """The author's reason to look ahead; None means no look-ahead."""
        return _header(_ALLOWS_LOOK_AHEAD, self.text)

    @property
    def look_back(self) -> str | None:
        """The declared look-back; None means that none is declared.

        It is the number of bars before a row that its value depends on, as SQL over the parameters: `n - 1`.
        """
        return _header(_LOOK_BACK, self.text)

    @property
    def look_back_line(self) -> int:
        """The line of the declared look-back; 1 where there is none."""
        declared = _LOOK_BACK.search(self.text)
        return 1 + self.text.count("\n", 0, declared.start()) if declared else 1


def _header(line: re.Pattern[str], text: str) -> str | None:
    header = line.search(text)
    return header.group(1).strip() if header else None


@dataclass(frozen=True)
class IndicatorCall:
    """An indicator with its arguments."""

    file: SqlFile
    arguments: dict[str, str]
    """parameters as SQL literals, source left out"""

    def sql(self, source: str) -> str:
        """Write the table macro's call on a relation: `"sma"("n" := 20, "source" := 'bars')`."""
        arguments = dict(self.arguments)
        if "source" in self.file.parameters:
            arguments["source"] = literal(source)
        listed = ", ".join(f"{identifier(name)} := {value}" for name, value in arguments.items())
        return f"{identifier(self.file.name)}({listed})"


@dataclass(frozen=True)
class PanelEntry:
    """An indicator of a panel, and what its columns are called there."""

    call: IndicatorCall
    columns: Mapping[str, str]
    """column of the indicator: its name in the panel"""
    types: Mapping[str, str] = field(default_factory=dict)
    """of the columns, as DuckDB finds them in a user's own file"""
    source_columns: frozenset[str] | None = None
    """columns of the source; None means that a user's own file runs as it stands"""
    look_back: int | None = None
    """bars before a row that its values depend on; None means all, or that nobody says"""
    symbols: frozenset[str] | None = None
    """those that it is asked for, where others of the panel are asked for more; None means all"""

    @property
    def remembers(self) -> bool:
        """Return whether every bar before has a weight: the look-back says when that is next to nothing."""
        declared = self.call.file.look_back
        return declared is not None and ("_look_back(" in declared or not self.call.file.is_built_in)

    @property
    def key(self) -> Hashable:
        """All that a query of the entry depends on."""
        fields = (self.call.arguments, self.columns, self.types)
        return (self.call.file, self.source_columns, self.look_back, self.symbols, *(tuple(f.items()) for f in fields))


@cache
def built_in_files() -> tuple[SqlFile, ...]:
    """Return the files of the layer itself, in loading order."""
    root = sql_root()
    names = _READ.findall((root / "init.sql").read_text(encoding="utf-8"))
    return tuple(SqlFile(root / name, (root / name).read_text(encoding="utf-8")) for name in names)


@cache
def built_in_names() -> frozenset[str]:
    """Return the names of everything that the layer itself defines."""
    return frozenset(file.name for file in built_in_files())


@cache
def built_in_functions() -> Mapping[str, SqlFile]:
    """Return the functions of the layer itself, by name."""
    return {file.name: file for file in built_in_files() if file.is_function}


@cache
def built_in_table_macros() -> Mapping[str, SqlFile]:
    """Return the layer's own table macros, stages included, by name."""
    return {file.name: file for file in built_in_files() if file.is_table_macro}


def files_named_in(text: str) -> list[SqlFile]:
    """Return the built-in files that some SQL needs, in loading order.

    A word too many costs a millisecond. SQL that lists the catalogue itself (SHOW, duckdb_functions()) names them all.
    """
    words = _words(text)
    if any(word == "show" or word.startswith(_CATALOGUE_NAMES) for word in words):
        return list(built_in_files())
    by_name = _built_in_by_name()
    needed: set[str] = set()
    waiting = list(words & by_name.keys())
    while waiting:
        name = waiting.pop()
        if name not in needed:
            needed.add(name)
            waiting += _reads(name)
    return [file for file in built_in_files() if file.name in needed]


def code_words(files: Iterable[SqlFile]) -> set[str]:
    """Return the words in the code of some files, without comments."""
    return _words("\n".join(_NOT_NAMES.sub("", file.text) for file in files))


@cache
def _built_in_by_name() -> dict[str, SqlFile]:
    return {file.name: file for file in built_in_files()}


@cache
def _reads(name: str) -> frozenset[str]:
    """Return the built-in names that a built-in file itself holds."""
    by_name = _built_in_by_name()
    return frozenset(code_words([by_name[name]]) & by_name.keys())


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


def user_files(folder: Path | None) -> tuple[SqlFile, ...]:
    """Read the user's own files, by name; empty without a folder.

    Raises:
        SettingsError: a file has the name of a built-in one, or is not text.
    """
    if folder is None:
        return ()
    built_in = _built_in_by_name()
    files = tuple(_user_file(path) for path in sorted(folder.glob("*.sql")))
    for file in files:
        if file.name in built_in:
            raise SettingsError(
                f"{file.path} has the name of the built-in {built_in[file.name].path}: rename it, for example to "
                f"my_{file.path.name}"
            )
    return files


def _user_file(path: Path) -> SqlFile:
    try:
        return SqlFile(path, path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as problem:
        raise SettingsError(f"{path} cannot be read as text: {problem}") from problem


def relation_names(folder: Path | None) -> list[str]:
    """Return the names of all views, built-in and the user's own, sorted."""
    return sorted(file.name for file in (*built_in_files(), *user_files(folder)) if file.is_relation)


def indicator_files(folder: Path | None) -> dict[str, SqlFile]:
    """Return the indicators, built-in and the user's own, by name."""
    return {file.name: file for file in (*built_in_files(), *user_files(folder)) if file.is_indicator}


def indicator_file(name: str, folder: Path | None) -> SqlFile:
    """Return the indicator of this name, in any case.

    Raises:
        UnknownIndicator: there is none.
    """
    name = name.lower()
    file = _built_in_by_name().get(name) or {own.name: own for own in user_files(folder)}.get(name)
    if file is None or not file.is_indicator:
        known = indicator_files(folder)
        raise UnknownIndicator(
            f"there is no indicator {name!r}{did_you_mean(name, known)}; to list them: alchemiser-duck indicators"
        )
    return file
