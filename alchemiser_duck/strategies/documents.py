"""JSON and YAML whose texts know their locations.

No key counts twice.
"""

import json
import json.scanner
from pathlib import Path
from typing import Any

import yaml

from alchemiser_duck.strategies.locations import LocatedStr, SourceLocation, locator


def read_json(text: str, path: Path) -> Any:
    """Read a JSON file; its texts are LocatedStr.

    Raises:
        MalformedFile: it is not JSON, or an object has a key twice.
    """
    locate = locator(path, text)
    decoder: Any = json.JSONDecoder()
    plain_text, plain_object = decoder.parse_string, decoder.parse_object

    def located_text(source: str, begin: int, *options: Any) -> tuple[str, int]:
        value, end = plain_text(source, begin, *options)
        return LocatedStr(value, locate(begin - 1)), end

    def whole_object(at: tuple[str, int], strict: bool, scan: Any, _: Any, __: Any, *options: Any) -> Any:
        pairs, end = plain_object(at, strict, scan, None, lambda pairs: pairs, *options)
        return _mapping(pairs, locate(at[1] - 1)), end

    decoder.parse_string, decoder.parse_object = located_text, whole_object
    decoder.scan_once = json.scanner.py_make_scanner(decoder)  # type: ignore[attr-defined] # the one in C calls neither
    try:
        return decoder.decode(text)
    except json.JSONDecodeError as problem:
        raise SourceLocation(path, problem.lineno, problem.colno).malformed(
            f"this is not JSON: {problem.msg}"
        ) from None
    except RecursionError:
        raise SourceLocation(path, 1, 1).malformed("this JSON is nested too deeply to be read") from None


def read_yaml(text: str, path: Path) -> Any:
    """Read a YAML file; every scalar is a LocatedStr.

    A plain loader would make a boolean of the ticker NO, and nothing of the ticker NULL.

    Raises:
        MalformedFile: it is not YAML, holds several documents, or a mapping has a key twice.
    """
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark or problem.context_mark
        location = SourceLocation(path, mark.line + 1, mark.column + 1) if mark else SourceLocation(path, 1, 1)
        raise location.malformed(f"this is not YAML: {problem.problem or problem.context}") from None
    except yaml.YAMLError as problem:
        raise SourceLocation(path, 1, 1).malformed(f"this is not YAML: {' '.join(str(problem).split())}") from None
    return _value(node, path)


def _value(node: yaml.Node | None, path: Path) -> Any:
    if node is None:
        return None
    if isinstance(node, yaml.ScalarNode):
        return LocatedStr(node.value, SourceLocation(path, node.start_mark.line + 1, node.start_mark.column + 1))
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, path) for item in node.value]
    location = SourceLocation(path, node.start_mark.line + 1, node.start_mark.column + 1)
    return _mapping([(_value(key, path), _value(value, path)) for key, value in node.value], location)


def _mapping(pairs: list[tuple[Any, Any]], location: SourceLocation) -> dict[str, Any]:
    mapping: dict[str, Any] = {}
    for key, value in pairs:
        if str(key) in mapping:
            raise location.malformed(f"the key {str(key)!r} stands here twice: one of its values would be lost")
        mapping[str(key)] = value
    return mapping
