"""The door for SQL that a user typed: one SELECT that reads the layer and nothing else.

The text is judged by DuckDB's own parse of it, so that no comment, quotation or blank makes two readers see two texts.
What may stand in it is listed: relations and macros of the layer, tables that the caller hands in, functions that look
at their arguments alone. So no query names a file or an address, and its names tell which objects it reads.
"""

import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import duckdb

from alchemiser_duck.errors import NotReadOnly, QueryFailed, did_you_mean

_TABLE_FUNCTIONS = frozenset({"generate_series", "query_table", "range", "repeat", "unnest"})
_CATALOGUE = frozenset({"duckdb_columns", "duckdb_functions", "duckdb_tables", "duckdb_types", "duckdb_views"})
"""They list the layer: a query that names one needs all of it."""
_ARITHMETIC = frozenset({"+", "-", "*", "/", "//", "%"})
_CATALOGUE_SCHEMAS = frozenset({"information_schema"})
_SCHEMAS = frozenset({"", "main"})
_CATALOGUES = frozenset({"", "memory"})

_ALLOWED = "type one that starts with SELECT, FROM, WITH, VALUES, DESCRIBE, SUMMARIZE or SHOW"


@dataclass(frozen=True, slots=True)
class TypedSelect:
    """A statement that may run."""

    text: str
    names: str | None
    """the names of the layer that it reads; None means it lists the layer, so all of them"""


def typed_select(text: str, known: Collection[str], tables: Collection[str] = ()) -> TypedSelect:
    """Check what a user typed.

    Args:
        known: the relations and macros of the layer, and the user's own.
        tables: the names of tables that the caller hands in.

    Raises:
        NotReadOnly: it is not a single SELECT-like statement, or reaches for something outside of the layer.
        QueryFailed: DuckDB cannot parse it, or a relation that it names does not exist.
    """
    statement = _single_statement(text)
    tree = _parsed(statement)
    local = {name.lower() for name in tables} | {entry["key"].lower() for node in tree for entry in _ctes(node)}
    names: set[str] | None = set()
    for node in tree:
        for name in _read_by(node, known, local):
            if name is None or names is None:
                names = None
            else:
                names.add(name)
    return TypedSelect(statement, None if names is None else " ".join(sorted(names)))


def _single_statement(text: str) -> str:
    try:
        text.encode()
    except (AttributeError, UnicodeEncodeError):
        raise QueryFailed("SQL is Unicode text, for example 'from bars limit 5': got something else") from None
    with duckdb.connect(":memory:") as parser:
        try:
            statements = parser.extract_statements(text)
        except (duckdb.Error, IndexError) as problem:
            raise QueryFailed(str(problem)) from problem
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        kinds = ", ".join(statement.type.name for statement in statements) or "nothing"
        raise NotReadOnly(f"this is {kinds}, but only a single SELECT-like statement is run here: {_ALLOWED}")
    return str(statements[0].query).strip().rstrip(";")


def _parsed(statement: str) -> list[dict[str, Any]]:
    """Every node of DuckDB's parse of a statement."""
    with duckdb.connect(":memory:") as parser:
        row = parser.execute("select json_serialize_sql($1::varchar)", [statement]).fetchone()
    parsed: dict[str, Any] = json.loads(row[0]) if row else {"error": True}
    if parsed["error"] or len(parsed["statements"]) != 1:
        raise NotReadOnly(f"only a single SELECT-like statement is run here: {_ALLOWED}")
    return list(_nodes(parsed))


def _nodes(value: Any) -> Iterator[dict[str, Any]]:
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield value
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


def _ctes(node: dict[str, Any]) -> list[dict[str, Any]]:
    ctes = node.get("cte_map")
    return ctes["map"] if isinstance(ctes, dict) else []


def _read_by(node: dict[str, Any], known: Collection[str], local: Collection[str]) -> Iterator[str | None]:
    """The names of the layer that a node reads; None means all of them.

    Raises:
        NotReadOnly, QueryFailed: as `typed_select` does.
    """
    kind = node.get("type")
    if kind == "BASE_TABLE":
        yield from _relation(node, known, local)
    elif kind == "TABLE_FUNCTION":
        yield from _table_function(node["function"], known)
    elif kind == "SHOW_REF" and node.get("query") is None:
        yield None
    elif isinstance(node.get("function_name"), str):
        name = node["function_name"].lower()
        if name in known:
            yield name
        elif name.isidentifier() and name not in _functions() | _TABLE_FUNCTIONS | _CATALOGUE:
            if name in _duckdb_functions():
                raise NotReadOnly(f"{name}() is out of reach here: not a function that looks at its arguments alone")
            raise QueryFailed(f"there is no function {name!r}{did_you_mean(name, _functions())}")


def _relation(node: dict[str, Any], known: Collection[str], local: Collection[str]) -> Iterator[str | None]:
    name, schema = node["table_name"].lower(), node.get("schema_name", "").lower()
    if schema not in _SCHEMAS | _CATALOGUE_SCHEMAS or node.get("catalog_name", "").lower() not in _CATALOGUES:
        raise QueryFailed(f"there is no schema {schema!r} here: relations have none, for example: from bars")
    if schema in _CATALOGUE_SCHEMAS:
        yield None
    elif name in known:
        yield name
    elif name not in local or not name.replace(" ", "_").isidentifier():
        raise QueryFailed(f"there is no relation {node['table_name']!r}{did_you_mean(name, known)}")


def _table_function(function: dict[str, Any], known: Collection[str]) -> Iterator[str | None]:
    name = function["function_name"].lower()
    if name in _CATALOGUE:
        yield None
    elif name in known or name == "query_table":
        if name in known:
            yield name
        for argument in _arguments(function):
            yield from _sources(name, argument)
    elif name not in _TABLE_FUNCTIONS:
        if name in _duckdb_functions():
            raise NotReadOnly(f"{name}() is out of reach here: a query reads the views, for example: from bars")
        raise QueryFailed(f"there is no indicator or table function {name!r}{did_you_mean(name, known)}")


def _sources(function: str, argument: dict[str, Any]) -> Iterator[str]:
    """The names that an argument of a table macro can hand to query_table."""
    match argument["class"], argument["type"]:
        case "CONSTANT", _:
            text = _text(argument)
            if text is None:
                return
            if re.fullmatch(r"\w*", text):  # neither a file nor an address
                yield text.lower()
                return
        case "CAST", _:
            yield from _sources(function, argument["child"])
            return
        case "FUNCTION", _ if argument["function_name"] in _ARITHMETIC:
            for part in _arguments(argument):
                yield from _sources(function, part)
            return
    raise NotReadOnly(
        f"an argument of {function}() is out of reach here: it takes numbers and the name of a relation in quotes, "
        "for example: from sma(20, source := 'bars_weekly')"
    )


def _arguments(function: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a function's arguments: `children` in DuckDB 1.5, `arguments` with names since 2.0."""
    if "arguments" in function:
        return [argument["expression"] for argument in function["arguments"]]
    children: list[dict[str, Any]] = function["children"]
    return children


def _text(constant: dict[str, Any]) -> str | None:
    """Return a constant's text; None for a number, a truth or null."""
    if "literal" not in constant:
        value = constant["value"].get("value")
        return value if isinstance(value, str) else None
    literal = constant["literal"]
    return None if literal["kind"] in ("INTEGER", "NUMERIC", "BOOLEAN", "NULL_LITERAL") else str(literal["text"])


@cache
def _duckdb_functions() -> frozenset[str]:
    with duckdb.connect(":memory:") as con:
        return frozenset(
            name for (name,) in con.execute("select lower(function_name) from duckdb_functions()").fetchall()
        )


@cache
def _functions() -> frozenset[str]:
    text = files(__package__).joinpath("allowed_functions.txt").read_text(encoding="utf-8")
    return frozenset(text.split())
