"""Read the one definition that a .sql file may hold.

sqlglot only reads: the author's text is executed unchanged. Statements are told apart by DuckDB's own parser, so that
no quotation can hide one. Every refusal names the file and the line: `mine.sql:3: the body is not a SELECT`.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import duckdb
from sqlglot import exp
from sqlglot.errors import ParseError, SqlglotError

from alchemiser_duck.errors import SettingsError
from alchemiser_duck.query.catalogue import SqlFile
from alchemiser_duck.query.sql_trees import parsed, table_name

_LEADING_COMMENTS = re.compile(r"\A(?:\s|--[^\n]*\n|/\*.*?\*/)*", re.DOTALL)
_CREATE = re.compile(
    r"\Acreate\s+or\s+replace\s+(?:"
    r"macro\s+(?P<macro>\w+)\s*\([^()]*\)\s*as\s+table|view\s+(?P<view>\w+)\s+as)\b",
    re.IGNORECASE,
)
_COMMENT = re.compile(r"\Acomment\s+on\s+(?:view|macro\s+table|macro)\s+(\w+)\s+is\b", re.IGNORECASE)


@dataclass(frozen=True, order=True)
class LintError:
    """An error in a user's file that keeps it from being loaded."""

    path: Path
    line: int
    reason: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.reason}"


class RefusedFile(SettingsError):
    """The file is not one definition that can be read."""

    def __init__(self, error: LintError) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(frozen=True)
class Definition:
    """The table macro or view that a file defines, parsed."""

    file: SqlFile
    parameters: frozenset[str]
    body: exp.Expr
    first_line: int
    """the file's line on which the body begins"""

    def line(self, node: exp.Expr) -> int:
        """Return a node's line, as near as its names tell."""
        around: exp.Expr | None = node
        while around is not None:
            lines = [int(name.meta["line"]) for name in around.find_all(exp.Identifier) if "line" in name.meta]
            if lines:
                return self.first_line - 1 + min(lines)
            around = around.parent
        return self.first_line

    def tables(self) -> Iterator[exp.Table]:
        """Yield the relations and table functions that are read, without CTEs."""
        local = {cte.alias_or_name.lower() for cte in self.body.find_all(exp.CTE)}
        for table in self.body.find_all(exp.Table):
            if isinstance(table.this, exp.Func) or table.name.lower() not in local:
                yield table

    def names_read(self) -> dict[str, exp.Expr]:
        """Return the relations and macros that are read, also as a source."""
        names: dict[str, exp.Expr] = {}
        for table in self.tables():
            names.setdefault(table_name(table), table)
            if isinstance(table.this, exp.Func):
                for text in table.find_all(exp.Literal):
                    if text.is_string:
                        names.setdefault(text.name.lower(), table)
        return names


def read_definition(file: SqlFile) -> Definition:
    """Parse a file's table macro or view.

    It is named after the file, and nothing but its comment may stand beside it.

    Raises:
        RefusedFile: it holds something else, or cannot be parsed.
    """
    definition: Definition | None = None
    for text, line in _statements(file):
        if comment := _COMMENT.match(text):
            if comment.group(1).lower() != file.name:
                raise _refused(file, line, f"comments on {comment.group(1)}, but the file is named {file.name}")
            continue
        created = _CREATE.match(text)
        if not created:
            allowed = "`create or replace macro … as table` or `create or replace view … as`"
            beginning = " ".join(text.split()[:4])
            raise _refused(file, line, f"only {allowed} and its comment may stand here, not: {beginning}")
        name = created.group("macro") or created.group("view")
        if definition is not None or name.lower() != file.name:
            raise _refused(file, line, f"defines {name}: a file defines one relation, named after it ({file.name})")
        body = text[created.end() :].lstrip()
        first_line = line + text.count("\n", 0, len(text) - len(body))
        tree = _parsed_body(file, body.rstrip().rstrip(";"), first_line)
        definition = Definition(file, frozenset(name.lower() for name in file.parameters), tree, first_line)
    if definition is None:
        raise _refused(file, 1, f"defines nothing: expected `create or replace macro {file.name}(…) as table (…)`")
    return definition


def in_loading_order(files: Sequence[SqlFile]) -> list[SqlFile]:
    """Return the files, each after those that it reads.

    Raises:
        SettingsError: they read each other in a circle, or one of them cannot be read.
    """
    by_name = {file.name: file for file in files}
    ordered: list[SqlFile] = []

    def visit(file: SqlFile, path: tuple[str, ...]) -> None:
        if file.name in path:
            circle = " -> ".join((*path[path.index(file.name) :], file.name))
            raise SettingsError(f"{file.path}:1: these files read each other in a circle: {circle}")
        if file in ordered:
            return
        for name in sorted(read_definition(file).names_read().keys() & by_name.keys()):
            visit(by_name[name], (*path, file.name))
        ordered.append(file)

    for file in files:
        visit(file, ())
    return ordered


@cache
def parser() -> duckdb.DuckDBPyConnection:
    """Return a DuckDB that only parses and lists its functions."""
    return duckdb.connect(":memory:")


def _refused(file: SqlFile, line: int, reason: str) -> RefusedFile:
    return RefusedFile(LintError(file.path, line, reason))


def _parsed_body(file: SqlFile, body: str, first_line: int) -> exp.Query:
    try:
        tree = parsed(body)
    except ParseError as problem:
        line = int(problem.errors[0].get("line") or 1) if problem.errors else 1
        raise _refused(file, first_line - 1 + line, f"cannot be read: {str(problem).splitlines()[0]}") from None
    except SqlglotError as problem:
        raise _refused(file, first_line, f"cannot be read: {str(problem).splitlines()[0]}") from None
    except RecursionError:
        raise _refused(file, first_line, "cannot be read: it is nested too deeply") from None
    if not isinstance(tree, exp.Query):
        raise _refused(file, first_line, "the body is not a SELECT")
    return tree


def _statements(file: SqlFile) -> Iterator[tuple[str, int]]:
    """Yield the statements as DuckDB separates them, with their first lines."""
    try:
        texts = [str(statement.query) for statement in parser().extract_statements(file.text)]
    except (duckdb.Error, IndexError) as problem:
        line = re.search(r"LINE (\d+):", str(problem))
        raise _refused(file, int(line.group(1)) if line else 1, str(problem).splitlines()[0]) from None
    offset = 0
    for text in texts:
        start = file.text.find(text, offset)
        offset = start + len(text)
        code = _LEADING_COMMENTS.sub("", text)
        yield code, 1 + file.text.count("\n", 0, offset - len(code))
