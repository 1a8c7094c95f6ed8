"""The nearest known name, for the end of an error message."""

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean X?` for the known name nearest to this one, else nothing. Upper and lower case are alike."""
    originals = {other.upper(): other for other in sorted(known)}
    near = difflib.get_close_matches(name.upper(), originals, n=1, cutoff=0.6)
    return f"; did you mean {originals[near[0]]}?" if near else ""
