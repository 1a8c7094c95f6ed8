"""The one place where a Python value becomes SQL text, for the statements where DuckDB binds no parameter."""

import math
from collections.abc import Iterable, Sequence
from datetime import date, datetime

Scalar = str | int | float | bool | date | datetime | None


def identifier(name: str) -> str:
    """The name as a quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: Scalar) -> str:
    """The value as a SQL literal.

    Raises:
        ValueError: NaN, infinity, a naive datetime or a type that has no literal here.
    """
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float() if math.isfinite(value):
            return f"{value!r}::double"
        case str() if "\0" not in value:
            return "'" + value.replace("'", "''") + "'"
        case datetime() if value.tzinfo is not None:
            return f"timestamptz '{value.isoformat()}'"
        case date() if not isinstance(value, datetime):
            return f"date '{value.isoformat()}'"
        case _:
            raise ValueError(f"no SQL literal for {value!r}")


def literal_list(values: Iterable[str]) -> str:
    """The values as the inside of an IN list."""
    return ", ".join(literal(value) for value in values)


def literal_array(values: Iterable[str]) -> str:
    """The values as a list."""
    return f"[{literal_list(values)}]"


def where(conditions: Sequence[str]) -> str:
    """A WHERE clause of conditions that must all hold; nothing where there are none."""
    return f" where {' and '.join(conditions)}" if conditions else ""
