"""JSON and YAML as Python values whose texts know their places, and in which no key counts twice."""

import json
import json.scanner
from pathlib import Path
from typing import Any

import yaml

from alchemiser_duck.strategies.locations import Place, Placed, places_in


def read_json(text: str, path: Path) -> Any:
    """The value of a JSON file, its texts Placed.

    Raises:
        MalformedFile: it is not JSON, or an object has a key twice.
    """

    place = places_in(path, text)
    decoder: Any = json.JSONDecoder()
    plain_text, plain_object = decoder.parse_string, decoder.parse_object

    def placed_text(source: str, begin: int, *options: Any) -> tuple[str, int]:
        value, end = plain_text(source, begin, *options)
        return Placed(value, place(begin - 1)), end

    def whole_object(at: tuple[str, int], strict: bool, scan: Any, _: Any, __: Any, *options: Any) -> Any:
        pairs, end = plain_object(at, strict, scan, None, lambda pairs: pairs, *options)
        return _mapping(pairs, place(at[1] - 1)), end

    decoder.parse_string, decoder.parse_object = placed_text, whole_object
    decoder.scan_once = json.scanner.py_make_scanner(decoder)  # type: ignore[attr-defined] # the C one knows neither
    try:
        return decoder.decode(text)
    except json.JSONDecodeError as problem:
        raise Place(path, problem.lineno, problem.colno).malformed(f"this is not JSON: {problem.msg}") from None
    except RecursionError:
        raise Place(path, 1, 1).malformed("this JSON is nested too deeply to be read") from None


def read_yaml(text: str, path: Path) -> Any:
    """The value of a YAML file, every scalar a Placed text: a ticker NO, ON or NULL stays one.

    Raises:
        MalformedFile: it is not YAML, holds several documents, or a mapping has a key twice.
    """
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark or problem.context_mark
        place = Place(path, mark.line + 1, mark.column + 1) if mark else Place(path, 1, 1)
        raise place.malformed(f"this is not YAML: {problem.problem or problem.context}") from None
    except yaml.YAMLError as problem:
        raise Place(path, 1, 1).malformed(f"this is not YAML: {' '.join(str(problem).split())}") from None
    return _value(node, path)


def _value(node: yaml.Node | None, path: Path) -> Any:
    if node is None:
        return None
    if isinstance(node, yaml.ScalarNode):
        return Placed(node.value, Place(path, node.start_mark.line + 1, node.start_mark.column + 1))
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, path) for item in node.value]
    place = Place(path, node.start_mark.line + 1, node.start_mark.column + 1)
    return _mapping([(_value(key, path), _value(value, path)) for key, value in node.value], place)


def _mapping(pairs: list[tuple[Any, Any]], place: Place) -> dict[str, Any]:
    mapping: dict[str, Any] = {}
    for key, value in pairs:
        if str(key) in mapping:
            raise place.malformed(f"the key {str(key)!r} stands here twice: one of its values would be lost")
        mapping[str(key)] = value
    return mapping
