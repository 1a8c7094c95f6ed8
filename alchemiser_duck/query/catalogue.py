"""The catalogue: the .sql files of the layer, in loading order, and what their headers say.

`sql/init.sql` names every file once, in the order of their dependencies, for the shell and for Python alike.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

from alchemiser_duck.errors import SettingsError, UnknownIndicator, did_you_mean
from alchemiser_duck.query.literals import identifier, literal

KEYS = ("symbol", "timestamp")
"""The first columns of every indicator."""
BARS_BEFORE = "bars_before"
"""The column that says how many bars precede a row in what was read."""
AT_THE_END = "decayed_sum_at_end"
"""The function that the newest row of a panel needs, whatever its indicators are."""

_READ = re.compile(r"^\.read sql/(\S+)$", re.MULTILINE)
_SIGNATURE = re.compile(
    r"^\s*create\s+or\s+replace\s+macro\s+\w+\s*\((?P<parameters>[^()]*)\)\s*as\s+(?P<table>table\b)?",
    re.MULTILINE | re.IGNORECASE,
)
_BODY = re.compile(r"\) as (?:table )?\((.*?)\n\);", re.DOTALL)
_NOT_NAMES = re.compile(r"^\s*--.*$|^comment on .*$|'[^'\n]*/[^'\n]*'", re.MULTILINE)
"""Comments, and paths of objects."""
_LISTS = ("duckdb_", "information_schema", "pg_", "pragma_", "sqlite_")
_DESCRIPTION = re.compile(r"^-- \w+: (.+)$", re.MULTILINE)
_ALLOWS_LOOK_AHEAD = re.compile(r"^-- allows look-ahead:[ \t]*(\S.*?)[ \t]*$", re.MULTILINE)
_LOOK_BACK = re.compile(r"^-- look-back:[ \t]*(\S.*?)[ \t]*$", re.MULTILINE)


@cache
def sql_root() -> Path:
    """The folder of the .sql files: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parent.parent
    return next(folder for folder in (package / "sql", package.parent / "sql") if folder.is_dir())


@dataclass(frozen=True)
class SqlFile:
    """One .sql file: the definition of the relation, indicator or function it is named after."""

    path: Path
    text: str

    @cached_property
    def name(self) -> str:
        """What the file defines, in lower case as DuckDB compares names."""
        return self.path.stem.lower()

    @cached_property
    def is_built_in(self) -> bool:
        """Whether it is a file of the layer itself."""
        return _built_in_by_name().get(self.name) == self

    @cached_property
    def _signature(self) -> re.Match[str] | None:
        return _SIGNATURE.search(self.text)

    @property
    def is_indicator(self) -> bool:
        """Whether the file defines a table macro; those among the relations are tools of the layer."""
        found = self._signature
        return found is not None and found.group("table") is not None and self.path.parent.name != "relations"

    @property
    def is_function(self) -> bool:
        """Whether the file defines a scalar macro: a formula that indicators share."""
        found = self._signature
        return found is not None and found.group("table") is None

    @property
    def is_relation(self) -> bool:
        """Whether the file defines a view: something with rows that a `source` can name."""
        return self._signature is None

    @property
    def parameters(self) -> dict[str, str]:
        """The macro's parameters and their defaults as SQL text."""
        found = self._signature
        pairs = (part.partition(":=") for part in found.group("parameters").split(",")) if found else ()
        return {name.strip(): default.strip() or "null" for name, _, default in pairs if name.strip()}

    @property
    def body(self) -> str:
        """What a built-in macro computes, as SQL text over its parameters: an expression, or a SELECT."""
        found = _BODY.search(self.text)
        return found.group(1) if found else "null"

    @property
    def signature(self) -> str:
        """The parameters with their defaults, as a person would type them."""
        return ", ".join(f"{name} := {default}" for name, default in self.parameters.items())

    @property
    def description(self) -> str:
        """The header's first line, without the name."""
        found = _DESCRIPTION.search(self.text)
        return found.group(1).strip() if found else ""

    @property
    def allows_look_ahead(self) -> str | None:
        """The author's reason for letting the values depend on later bars: research labels; None: they must not."""
        found = _ALLOWS_LOOK_AHEAD.search(self.text)
        return found.group(1) if found else None

    @property
    def look_back(self) -> str | None:
        """How many bars before a row its value depends on, as a SQL expression of the parameters; None: all of them."""
        found = _LOOK_BACK.search(self.text)
        return found.group(1) if found else None


@dataclass(frozen=True)
class IndicatorCall:
    """An indicator that is asked for."""

    file: SqlFile
    arguments: dict[str, str]
    """parameters as SQL literals, source left out"""

    def sql(self, source: str) -> str:
        """The table macro's call on a relation."""
        arguments = dict(self.arguments)
        if "source" in self.file.parameters:
            arguments["source"] = literal(source)
        listed = ", ".join(f"{identifier(name)} := {value}" for name, value in arguments.items())
        return f"{identifier(self.file.name)}({listed})"


@dataclass(frozen=True)
class PanelEntry:
    """One indicator of a panel."""

    call: IndicatorCall
    columns: Mapping[str, str]
    """column of the indicator: its name in the panel"""
    types: Mapping[str, str] = field(default_factory=dict)
    """of the columns, as DuckDB finds them in a user's own file"""
    source_columns: frozenset[str] | None = None
    """what the source has; None: a user's own file is not to be taken apart"""


@cache
def built_in_files() -> tuple[SqlFile, ...]:
    """The files of the layer itself, in loading order."""
    root = sql_root()
    names = _READ.findall((root / "init.sql").read_text(encoding="utf-8"))
    return tuple(SqlFile(root / name, (root / name).read_text(encoding="utf-8")) for name in names)


@cache
def built_in_functions() -> Mapping[str, SqlFile]:
    """The functions of the layer itself, by name."""
    return {file.name: file for file in built_in_files() if file.is_function}


def files_named_in(text: str) -> list[SqlFile]:
    """The built-in files that a piece of SQL names, and all that those need, in loading order.

    A word too many costs a millisecond. SQL that lists the catalogue itself (SHOW, duckdb_functions()) names them all.
    """
    words = _words(text)
    if any(word == "show" or word.startswith(_LISTS) for word in words):
        return list(built_in_files())
    by_name = _built_in_by_name()
    found: dict[str, SqlFile] = {}
    waiting = list(words & by_name.keys())
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = by_name[name]
            waiting += _reads(name)
    return [file for file in built_in_files() if file.name in found]


def code_words(files: Iterable[SqlFile]) -> set[str]:
    """The words in the code of some files: no comments."""
    return _words("\n".join(_NOT_NAMES.sub("", file.text) for file in files))


@cache
def _built_in_by_name() -> dict[str, SqlFile]:
    return {file.name: file for file in built_in_files()}


@cache
def _reads(name: str) -> frozenset[str]:
    """The built-in files that one of them names itself."""
    by_name = _built_in_by_name()
    return frozenset(code_words([by_name[name]]) & by_name.keys())


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


def user_files(folder: Path | None) -> tuple[SqlFile, ...]:
    """The user's own files, by name; empty without a folder.

    Raises:
        SettingsError: a file has the name of a built-in one, or is not text.
    """
    if folder is None:
        return ()
    built_in = _built_in_by_name()
    found = tuple(_user_file(path) for path in sorted(folder.glob("*.sql")))
    for file in found:
        if file.name in built_in:
            raise SettingsError(
                f"{file.path} has the name of the built-in {built_in[file.name].path}: rename it, for example to "
                f"my_{file.path.name}"
            )
    return found


def _user_file(path: Path) -> SqlFile:
    try:
        return SqlFile(path, path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as problem:
        raise SettingsError(f"{path} cannot be read as text: {problem}") from problem


def relation_names(folder: Path | None) -> list[str]:
    """The names of all views of the layer and of the user's own, sorted."""
    return sorted(file.name for file in (*built_in_files(), *user_files(folder)) if file.is_relation)


def indicator_files(folder: Path | None) -> dict[str, SqlFile]:
    """The indicators that take parameters, built-in and the user's own, by name."""
    return {file.name: file for file in (*built_in_files(), *user_files(folder)) if file.is_indicator}


def indicator_file(name: str, folder: Path | None) -> SqlFile:
    """The indicator of this name, built-in or the user's own.

    Raises:
        UnknownIndicator: there is none.
    """
    file = _built_in_by_name().get(name) or {own.name: own for own in user_files(folder)}.get(name)
    if file is None or not file.is_indicator:
        known = indicator_files(folder)
        raise UnknownIndicator(
            f"there is no indicator {name!r}{did_you_mean(name, known)}; to list them: alchemiser-duck indicators"
        )
    return file
