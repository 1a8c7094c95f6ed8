"""Lists the indicators that there are, with what their files say about themselves."""

from pathlib import Path
from typing import TYPE_CHECKING

from alchemiser_duck.panel.reading import look_back_of
from alchemiser_duck.query.catalogue import indicator_files
from alchemiser_duck.query.introspection import Introspection
from alchemiser_duck.query.literals import identifier

if TYPE_CHECKING:
    import pyarrow as pa


def indicator_list(introspection: Introspection, folder: Path | None) -> "pa.Table":
    """List the indicators, built-in and the user's own, by name.

    Columns: name, parameters (with their defaults), columns (of the result), description, look_back (SQL over the
    parameters; null: all bars), look_ahead (null, or why values may depend on later bars), file.

    Raises:
        SettingsError: a file of the user's own does not load.
    """
    import pyarrow as pa

    rows = [
        {
            "name": file.name,
            "parameters": file.signature,
            "columns": list(introspection.columns_of(f"{identifier(file.name)}()")),
            "description": file.description,
            "look_back": look_back_of(file),
            "look_ahead": file.allows_look_ahead,
            "file": str(file.path),
        }
        for file in sorted(indicator_files(folder).values(), key=lambda file: file.name)
    ]
    texts = [(name, pa.string()) for name in ("description", "look_back", "look_ahead", "file")]
    heads = [("name", pa.string()), ("parameters", pa.string()), ("columns", pa.list_(pa.string()))]
    return pa.Table.from_pylist(rows, schema=pa.schema(heads + texts))
