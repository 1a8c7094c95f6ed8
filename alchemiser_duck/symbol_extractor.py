"""SymbolExtractor: the universe that strategies, queries and lists talk about, and where they do.

    SymbolExtractor().extract(Path("strategies")).names    # ['SPY', 'TQQQ', …]

Read are strategies in the Clojure-style DSL (.clj, .edn), strategy configs and Composer symphonies (.json), lists
(.txt, .csv, .json, .yaml) and SQL (.sql: literals compared with `symbol`). What cannot be understood is an error that
names its place: a universe is never silently smaller than the files say.
"""

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from alchemiser_duck.errors import BadParameter, CryptoPair, MalformedFile
from alchemiser_duck.query.arguments import TICKER, alpaca_symbol
from alchemiser_duck.query.catalogue import built_in_files
from alchemiser_duck.settings import Settings
from alchemiser_duck.strategies.documents import read_json, read_yaml
from alchemiser_duck.strategies.locations import Place, Placed, places_in
from alchemiser_duck.strategies.s_expressions import Atom, Form, Group, read_forms

__all__ = [
    "ExtractedSymbol",
    "Extraction",
    "IndicatorUse",
    "LeftOut",
    "SymbolExtractor",
    "alpaca_symbol",
    "configured_symbols",
]

_KEYS = ("symbols", "tickers", "universe")
_COLUMNS = ("symbol", "ticker", "symbols", "tickers")


@dataclass(frozen=True, slots=True, order=True)
class IndicatorUse:
    """An indicator that a strategy asks for, as the strategy names it."""

    name: str
    window: int | None = None
    """bars; None: it has no window"""

    def __str__(self) -> str:
        return self.name if self.window is None else f"{self.name}({self.window})"


@dataclass(frozen=True)
class ExtractedSymbol:
    """One symbol, in Alpaca's form, with where it was seen and what is computed of it."""

    symbol: str
    places: tuple[Place, ...]
    indicators: tuple[IndicatorUse, ...]

    @property
    def bars_needed(self) -> int:
        """How many bars the longest window needs; an average of n changes takes n + 1."""
        return 1 + max((use.window or 0 for use in self.indicators), default=0)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Something that looks like a symbol and is not one of this lake's."""

    text: str
    reason: str
    place: Place

    def __str__(self) -> str:
        return f"{self.place}: {self.text} is left out: {self.reason}"


@dataclass(frozen=True)
class Extraction:
    """What was found: symbols in alphabetical order, and what was left out."""

    symbols: tuple[ExtractedSymbol, ...]
    left_out: tuple[LeftOut, ...]

    @property
    def names(self) -> list[str]:
        """The symbols alone, sorted."""
        return [found.symbol for found in self.symbols]


@dataclass
class _Found:
    """What has been seen so far."""

    places: dict[str, dict[Place, None]] = field(default_factory=dict)
    uses: dict[str, set[IndicatorUse]] = field(default_factory=dict)
    left_out: list[LeftOut] = field(default_factory=list)
    files: set[Path] = field(default_factory=set)
    seen: int = 0

    def add(self, text: str, place: Place, uses: Iterable[IndicatorUse] = ()) -> None:
        """A symbol as a file writes it.

        Raises:
            MalformedFile: it is none.
        """
        self.seen += 1
        try:
            symbol = alpaca_symbol(text)
        except CryptoPair as problem:
            self.left_out.append(LeftOut(text, str(problem), place))
            return
        except BadParameter as problem:
            raise place.malformed(str(problem)) from None
        self.places.setdefault(symbol, {})[place] = None
        self.uses.setdefault(symbol, set()).update(uses)


def configured_symbols(settings: Settings) -> list[str]:
    """The universe that the environment names: ALCHEMISER_SYMBOLS, then what ALCHEMISER_STRATEGIES talk about.

    Raises:
        MalformedFile: a strategy file cannot be read.
    """
    named = settings.strategies
    return list(dict.fromkeys([*settings.symbols, *(SymbolExtractor().extract(named).names if named else [])]))


class _UnknownShape(MalformedFile):
    """JSON or YAML that is sound, and none of what symbols are read from."""

    def __init__(self, what: str, place: Place) -> None:
        super().__init__(f"{place}: {what}")
        self.what = what
        self.place = place


class SymbolExtractor:
    """Reads symbols out of files. It holds nothing: one serves any number of calls."""

    def extract(self, *paths: Path | str) -> Extraction:
        """The symbols of files and folders; a folder means every file in it that symbols are read from.

        JSON and YAML files of a folder that are about something else (a manifest) are left out, with a note.

        Raises:
            MalformedFile: a path does not exist, a file is not what its name says, or holds no symbol.
        """
        found = _Found()
        for path in map(Path, paths):
            for file in _files(path):
                try:
                    _read_file(file, found)
                except _UnknownShape as problem:
                    if not path.is_dir():
                        raise
                    found.left_out.append(LeftOut(file.name, problem.what, problem.place))
        symbols = (
            ExtractedSymbol(name, tuple(sorted(found.places[name])), tuple(sorted(found.uses[name], key=str)))
            for name in sorted(found.places)
        )
        return Extraction(tuple(symbols), tuple(found.left_out))


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        inside = (file for file in path.rglob("*") if not any(p.startswith(".") for p in file.relative_to(path).parts))
        files = sorted(file for file in inside if file.suffix.lower() in _READERS and file.is_file())
        if not files:
            raise Place(path, 1, 1).malformed(f"no file in this folder ends in {', '.join(sorted(_READERS))}")
        yield from files
    else:
        yield path


def _read_file(path: Path, found: _Found) -> None:
    resolved = path.resolve()
    if resolved in found.files:
        return
    found.files.add(resolved)
    beginning = Place(path, 1, 1)
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise beginning.malformed(
            f"symbols are read from {', '.join(sorted(_READERS))}, not from {path.suffix or path}"
        )
    try:
        content = path.read_bytes()
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        line = content.count(b"\n", 0, problem.start) + 1
        raise Place(path, line, problem.start - content.rfind(b"\n", 0, problem.start)).malformed(
            "this is not UTF-8 text"
        ) from None
    except OSError as problem:
        raise beginning.malformed(f"the file cannot be read: {problem.strerror}") from None
    before = found.seen
    reader(text, path, found)
    if found.seen == before and reader is not _read_sql:  # a query may be about every symbol
        raise beginning.malformed("there is no symbol in this file; take it out, or check that it is complete")


# --- the DSL ----------------------------------------------------------------------------------------------------------

_NAMED = frozenset({"defsymphony", "defstrategy", "group", "ns", "def", "defn", "let", "str", "println", "require"})
"""Forms whose texts are names and titles."""

_DSL_INDICATORS = frozenset(
    {"moving-average-price", "exponential-moving-average-price", "relative-strength-index", "volatility"}
    | {"standard-deviation-price", "standard-deviation-return"}
)
"""What the DSL calls by another name than the layer."""


@cache
def _indicator_names() -> frozenset[str]:
    own = {file.name.replace("_", "-") for file in built_in_files() if file.is_indicator}
    return _DSL_INDICATORS | own


def _read_dsl(text: str, path: Path, found: _Found) -> None:
    """Forms from the outside in, each with the indicators that are computed of every asset in it."""
    waiting: list[tuple[Form, frozenset[IndicatorUse]]]
    waiting = [(form, frozenset()) for form in reversed(read_forms(text, path))]
    while waiting:
        form, uses = waiting.pop()
        if isinstance(form, Atom) or form.head == "comment":
            continue
        if form.head.startswith(("filter", "weight-")):
            uses |= _use_of_every_asset(form)
        elif form.head and form.head not in _NAMED:
            _symbol_of_call(form, uses, found)
        waiting += [(item, uses) for item in reversed(form.items)]


def _symbol_of_call(form: Group, uses: frozenset[IndicatorUse], found: _Found) -> None:
    """(asset "SPY" …), (rsi "SPY" {:window 10}): the text after the head is a symbol."""
    first = form.items[1] if len(form.items) > 1 else None
    window = _window(form)
    is_indicator = form.head in _indicator_names() or window is not None
    if window is None and is_indicator and len(form.items) > 2:
        window = _number(form.items[2])  # (rsi "SPY" 14)
    if form.head == "asset" or is_indicator:
        if isinstance(first, Atom) and first.kind == "string":
            own = uses if form.head == "asset" else frozenset({IndicatorUse(form.head, window)})
            found.add(first.text, first.place, own)
        elif form.head == "asset" or (isinstance(first, Atom) and first.kind == "name"):
            raise form.place.malformed(
                f'({form.head} …) takes a symbol as text first, for example ({form.head} "SPY" …)'
            )
    elif isinstance(first, Atom) and first.kind == "string" and TICKER.fullmatch(first.text):
        raise form.place.malformed(
            f'({form.head} "{first.text}" …) is not known: if "{first.text}" is a symbol, use asset or an indicator '
            "with {:window n}; if it is a name, use group"
        )


def _use_of_every_asset(form: Group) -> frozenset[IndicatorUse]:
    """(filter (rsi {:window 10}) …) and (weight-inverse-volatility 20 …): computed of all that is inside."""
    first = form.items[1] if len(form.items) > 1 else None
    if isinstance(first, Group) and first.head in _indicator_names():
        argument = first.items[1] if len(first.items) > 1 else None
        named = isinstance(argument, Atom) and argument.kind == "string"
        return frozenset() if named else frozenset({IndicatorUse(first.head, _window(first) or _number(argument))})
    if form.head.startswith("weight-inverse-vol"):
        window = _window(form) or _number(first)
        return frozenset({IndicatorUse(form.head, window)}) if window else frozenset()
    return frozenset()


def _window(form: Group) -> int | None:
    """The number in {:window n} among a form's arguments."""
    for item in form.items[1:]:
        if isinstance(item, Group) and item.kind == "map":
            for key, value in zip(item.items[::2], item.items[1::2], strict=True):
                if isinstance(key, Atom) and key.text == ":window":
                    number = _number(value)
                    if number is None:
                        raise value.place.malformed(":window takes a number of bars")
                    return number
    return None


def _number(form: Form | None) -> int | None:
    if isinstance(form, Atom) and re.fullmatch(r"[1-9]\d{0,5}", form.text):
        return int(form.text)
    return None


# --- JSON and YAML ----------------------------------------------------------------------------------------------------


def _read_json(text: str, path: Path, found: _Found) -> None:
    _read_value(read_json(text, path), path, found)


def _read_yaml(text: str, path: Path, found: _Found) -> None:
    _read_value(read_yaml(text, path), path, found)


def _read_value(value: Any, path: Path, found: _Found) -> None:
    beginning = Place(path, 1, 1)
    if isinstance(value, dict) and isinstance(value.get("files"), list):
        for name in value["files"]:
            _read_file(_beside(name, path), found)
            found.seen += 1  # also where the file was read already
    elif isinstance(value, dict) and (key := next((key for key in _KEYS if key in value), None)):
        _read_list(value[key], beginning, found)
    elif isinstance(value, list):
        _read_list(value, beginning, found)
    elif isinstance(value, dict) and any("step" in part for part in _mappings(value)):
        _read_symphony(value, frozenset(), found)
    else:
        expected = 'a list of symbols, {"symbols": […]}, a strategy config {"files": […]} or a Composer symphony'
        raise _UnknownShape(f"expected {expected}", beginning)


def _beside(name: Any, config: Path) -> Path:
    """A file that a config names: relative to its folder or the folder strategies beside it, or somewhere in that."""
    if not isinstance(name, Placed):
        raise Place(config, 1, 1).malformed(f'"files" lists names of files, not {name!r}')
    folders = (config.parent, config.parent / "strategies", config.parent.parent / "strategies", config.parent.parent)
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    inside = [
        file
        for folder in folders
        if folder.name == "strategies"
        for file in sorted(folder.rglob("*"))
        if file.as_posix().endswith(f"/{name}")
    ]
    if len(inside) > 1:
        raise name.place.malformed(f"{str(name)!r} could be any of {', '.join(map(str, inside))}: name its folder too")
    if not inside:
        raise name.place.malformed(f"there is no file {str(name)!r} in {', '.join(map(str, folders))}")
    return inside[0]


def _read_list(items: Any, beginning: Place, found: _Found) -> None:
    """A list of symbols, or of objects with a symbol or a ticker."""
    place = beginning
    for item in items if isinstance(items, list) else [items]:
        if isinstance(item, dict):
            item = next((item[key] for key in _COLUMNS if key in item), item)
        if not isinstance(item, Placed):
            raise place.malformed(f"the list holds {item!r} after this place: expected symbols as text")
        place = item.place
        found.add(item, place)


def _read_symphony(value: Any, uses: frozenset[IndicatorUse], found: _Found) -> None:
    """Composer's JSON: steps with children; assets have a ticker, conditions compare indicators of symbols."""
    waiting = [(value, uses)]
    while waiting:
        value, uses = waiting.pop()
        if isinstance(value, list):
            waiting += [(item, uses) for item in value]
        if not isinstance(value, dict):
            continue
        if value.get("step") == "asset":
            if not isinstance(ticker := value.get("ticker"), Placed):
                raise _first_place(value).malformed('an asset needs a "ticker"')
            found.add(ticker, ticker.place, uses)
        for side in ("lhs", "rhs"):
            fixed = str(value.get(f"{side}-fixed-value?", "")).lower() == "true"
            symbol = value.get(f"{side}-val")
            if f"{side}-fn" in value and isinstance(symbol, Placed) and not fixed:
                found.add(symbol, symbol.place, {_composer_use(value, side)})
        if value.get("step") == "wt-inverse-vol" and (
            digits := re.fullmatch(r"\d{1,6}", str(value.get("window-days")))
        ):
            uses |= {IndicatorUse("wt-inverse-vol", int(digits.group()))}
        if "sort-by-fn" in value:
            uses |= {_composer_use(value, "sort-by")}
        waiting += [(part, uses) for part in value.values()]


def _composer_use(step: dict[str, Any], side: str) -> IndicatorUse:
    parameters = step.get(f"{side}-fn-params")
    window = parameters.get("window") if isinstance(parameters, dict) else step.get(f"{side}-window-days")
    digits = re.fullmatch(r"\d{1,6}", str(window))
    return IndicatorUse(str(step[f"{side}-fn"]), int(digits.group()) if digits else None)


def _mappings(value: Any) -> Iterator[dict[str, Any]]:
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            yield part
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part


def _first_place(value: dict[str, Any]) -> Place:
    return next(text.place for part in _mappings(value) for text in part.values() if isinstance(text, Placed))


# --- SQL, text and CSV ------------------------------------------------------------------------------------------------

_NOT_FOR_SQLGLOT = re.compile(
    r"\bcomment\s+on\s+(?:macro\s+table|macro|view)\s+\w+\s+is\s+'(?:[^']|'')*'|"
    r"\bcreate\s+(?:or\s+replace\s+)?(?:temp(?:orary)?\s+)?(?:macro|function)\s+\w+\s*\([^()]*\)\s*as(?:\s+table)?\b",
    re.I,
)


def _read_sql(text: str, path: Path, found: _Found) -> None:
    """Literals that are compared with a column `symbol`."""
    import sqlglot  # takes a while to import
    from sqlglot import exp
    from sqlglot.errors import ParseError, TokenError

    place = places_in(path, text)
    plain = _NOT_FOR_SQLGLOT.sub(lambda part: re.sub(r"\S", " ", part.group()), text)
    try:
        trees = [tree for tree in sqlglot.parse(plain, read="duckdb") if tree is not None]
    except ParseError as problem:
        first = problem.errors[0]
        raise Place(path, first["line"], first["col"]).malformed(f"this is not SQL: {first['description']}") from None
    except TokenError as problem:
        raise Place(path, 1, 1).malformed(f"this is not SQL: {str(problem).splitlines()[0]}") from None
    for comparison in (node for tree in trees for node in tree.find_all(exp.EQ, exp.NEQ, exp.In, exp.Any)):
        sides = [comparison.this, comparison.args.get("expression"), *comparison.expressions]
        if any(isinstance(side, exp.Column) and side.name.lower() == "symbol" for side in sides):
            for literal in (part for side in sides if side is not None for part in side.find_all(exp.Literal)):
                if literal.is_string:
                    found.add(literal.this, place(int(literal.meta.get("start", 0))))


def _read_text(text: str, path: Path, found: _Found) -> None:
    """Symbols separated by white space or commas; # begins a comment."""
    for number, line in enumerate(text.split("\n"), 1):
        for word in re.finditer(r"[^\s,;]+", line.split("#")[0]):
            found.add(word.group(), Place(path, number, word.start() + 1))


def _read_csv(text: str, path: Path, found: _Found) -> None:
    """The column symbol or ticker; without such a header, a single column."""
    rows = csv.reader(io.StringIO(text), strict=True)
    column: int | None = None
    try:
        for row in rows:
            if not any(cell.strip() for cell in row):
                continue
            place = Place(path, rows.line_num, 1)
            if column is None:
                names = [cell.strip().lower() for cell in row]
                column = next((names.index(name) for name in _COLUMNS if name in names), None)
                if column is not None:
                    continue
                if len(row) > 1:
                    raise place.malformed(f"no column is called {' or '.join(_COLUMNS)}: name one of them so")
                column = 0
            if column >= len(row):
                raise place.malformed(f"the row ends before column {column + 1}, where the symbol is")
            found.add(row[column], place)
    except csv.Error as problem:
        raise Place(path, rows.line_num or 1, 1).malformed(f"this is not CSV: {problem}") from None


_READERS: dict[str, Callable[[str, Path, _Found], None]] = {
    **dict.fromkeys((".clj", ".cljs", ".cljc", ".edn"), _read_dsl),
    **dict.fromkeys((".yaml", ".yml"), _read_yaml),
    ".json": _read_json,
    ".sql": _read_sql,
    ".txt": _read_text,
    ".csv": _read_csv,
}
"""How a file is read, by the ending of its name."""
