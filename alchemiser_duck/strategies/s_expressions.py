"""Read s-expressions as Clojure writes them, each with its location.

It reads lists, vectors, maps, sets, strings, characters, keywords, numbers and names. Comments, discarded
forms (`#_`) and metadata (`^`) are left out; quotes and tags are transparent. Nothing is evaluated.
Source: https://clojure.org/reference/reader
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from alchemiser_duck.strategies.locations import SourceLocation

AtomKind = Literal["string", "keyword", "number", "character", "name"]
GroupKind = Literal["list", "vector", "map", "set"]


@dataclass(frozen=True, slots=True)
class Atom:
    """A single value: the string's text, or the value as written."""

    kind: AtomKind
    text: str
    location: SourceLocation


@dataclass(frozen=True, slots=True)
class Group:
    """Forms in brackets."""

    kind: GroupKind
    items: "tuple[Form, ...]"
    location: SourceLocation

    @property
    def head(self) -> str:
        """Return a list's first name, without its namespace, or ""."""
        first = self.items[0] if self.kind == "list" and self.items else None
        return first.text.rpartition("/")[2] if isinstance(first, Atom) and first.kind == "name" else ""


Form = Atom | Group

_TOKEN = re.compile(
    r"""(?P<blank>[\s,]+|;[^\n]*|\#![^\n]*)
      | (?P<open>\#?\{|\#?\(|\[)
      | (?P<close>[\])}])
      | (?P<dropped>\#_|\#?\^)
      | (?P<transparent>\#'|~@|['`~@]|\#(?=[A-Za-z]))
      | (?P<string>\#?"(?:[^"\\]|\\.)*")
      | (?P<character>\\(?:[A-Za-z0-9]+|.))
      | (?P<bare>[^\s,;\[\](){}"\\^`~@\#'][^\s,;\[\](){}"\\^`~@]*)
    """,
    re.VERBOSE | re.DOTALL,
)
_KINDS: dict[str, tuple[GroupKind, str]] = {
    "(": ("list", ")"),
    "#(": ("list", ")"),
    "[": ("vector", "]"),
    "{": ("map", "}"),
    "#{": ("set", "}"),
}
_NUMBER = re.compile(r"[+-]?\d")
_ESCAPE = re.compile(r"\\(u[0-9A-Fa-f]{4}|[0-7]{1,3}|.)", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", '"': '"', "\\": "\\"}


@dataclass
class _Open:
    """A bracket that is not closed yet, or the file itself."""

    kind: GroupKind
    closer: str
    location: SourceLocation
    items: list[Form] = field(default_factory=list)
    drops: int = 0
    """count of next forms to leave out"""

    def add(self, form: Form) -> None:
        if self.drops:
            self.drops -= 1
        else:
            self.items.append(form)


def read_forms(text: str, path: Path) -> tuple[Form, ...]:
    """Read the forms of a file; empty for a file of comments.

    Raises:
        MalformedFile: brackets do not match, a string does not end, or a character cannot stand where it does.
    """
    stack = [_Open("list", "", SourceLocation(path, 1, 1))]
    for kind, token, location in _tokens(text, path):
        top = stack[-1]
        match kind:
            case "open":
                stack.append(_Open(*_KINDS[token], location))
            case "close":
                if token != top.closer:
                    missing = f"{top.closer!r} is missing for the bracket at {top.location}"
                    raise location.malformed(
                        f"{token!r} closes nothing here: {missing if top.closer else 'nothing is open'}"
                    )
                stack.pop()
                _require_whole(top, location)
                stack[-1].add(Group(top.kind, tuple(top.items), top.location))
            case "dropped":
                top.drops += 1
            case "string":
                top.add(Atom("string", _unescaped(token, location), location))
            case "character":
                top.add(Atom("character", token, location))
            case "bare":
                top.add(Atom(_bare_kind(token), token, location))
    if len(stack) > 1:
        raise stack[-1].location.malformed(f"this bracket is never closed: {stack[-1].closer!r} is missing")
    _require_whole(stack[0], stack[0].location)
    return tuple(stack[0].items)


def _tokens(text: str, path: Path) -> Iterator[tuple[str, str, SourceLocation]]:
    offset, line, line_start = 0, 1, 0
    while offset < len(text):
        location = SourceLocation(path, line, offset - line_start + 1)
        token = _TOKEN.match(text, offset)
        if token is None:
            if text[offset] == '"' or text.startswith('#"', offset):
                raise location.malformed("this string never ends: a quotation mark is missing")
            raise location.malformed(f"{text[offset]!r} cannot stand here")
        if token.lastgroup not in (None, "blank", "transparent"):
            yield str(token.lastgroup), token.group(), location
        if newlines := token.group().count("\n"):
            line += newlines
            line_start = text.rfind("\n", 0, token.end()) + 1
        offset = token.end()


def _require_whole(closed: _Open, location: SourceLocation) -> None:
    if closed.drops:
        raise location.malformed("#_ or ^ leaves out the next form, and there is none")
    if closed.kind == "map" and len(closed.items) % 2:
        raise closed.location.malformed("a map needs a value for every key")


def _bare_kind(token: str) -> AtomKind:
    if token.startswith(":"):
        return "keyword"
    return "number" if _NUMBER.match(token) else "name"


def _unescaped(token: str, location: SourceLocation) -> str:
    if token.startswith("#"):
        return token[2:-1]  # a regular expression: as written

    def character(escape: re.Match[str]) -> str:
        code = escape.group(1)
        if code in _ESCAPES:
            return _ESCAPES[code]
        if code[0] == "u" and len(code) == 5:
            return chr(int(code[1:], 16))
        if code[0] in "01234567":
            return chr(int(code, 8))
        raise location.malformed(f"the string holds \\{code}, which is no escape")

    return _ESCAPE.sub(character, token[1:-1])
