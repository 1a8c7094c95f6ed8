"""Turn Python values into SQL text.

No other module quotes, and only statements where DuckDB binds no parameter need it: `literal("O'Neil")` is `'O''Neil'`,
`identifier('a"b')` is `"a""b"`.
"""

import math
from collections.abc import Iterable, Sequence
from datetime import date, datetime

Scalar = str | int | float | bool | date | datetime | None


def identifier(name: str) -> str:
    """Quote a name as a SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: Scalar) -> str:
    """Write a value as a SQL literal.

    Raises:
        ValueError: NaN, infinity, a naive datetime or a type that has no literal here.
    """
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int():
            return str(int(value))
        case float() if math.isfinite(value):
            return f"{float(value)!r}::double"  # numpy's doubles are floats that call themselves np.float64(…)
        case str() if "\0" not in value:
            return "'" + value.replace("'", "''") + "'"
        case datetime() if value.tzinfo is not None:
            return f"timestamptz '{value.isoformat()}'"
        case date() if not isinstance(value, datetime):
            return f"date '{value.isoformat()}'"
        case _:
            raise ValueError(f"no SQL literal for {value!r}")


def literal_list(values: Iterable[str]) -> str:
    """Write texts as the inside of an IN list."""
    return ", ".join(literal(value) for value in values)


def literal_array(values: Iterable[str]) -> str:
    """Write texts as a list: `['a', 'b']`."""
    return f"[{literal_list(values)}]"


def where(conditions: Sequence[str]) -> str:
    """Write a WHERE clause of all conditions; nothing for none."""
    return f" where {' and '.join(conditions)}" if conditions else ""
