"""Texts of the command line as values; each error names the option and shows a good one."""

from datetime import UTC, datetime
from typing import Any

from alchemiser_duck.errors import BadParameter


def split_symbols(symbols: str | None) -> list[str] | None:
    """Read tickers separated by commas or blanks; None where the option was left out."""
    return None if symbols is None else symbols.replace(",", " ").split()


def moment(text: str | None) -> datetime | None:
    """Read the moment of --now; one without a zone is in UTC.

    Raises:
        BadParameter: it is none.
    """
    if text is None:
        return None
    try:
        value = datetime.fromisoformat(text)
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise BadParameter(f"--now {text!r} is not a moment; for example: --now 2026-11-20T21:30Z") from None


def assignment(text: str, option: str) -> tuple[str, Any]:
    """Read `n=14` as a name and a value.

    Raises:
        BadParameter: it has another form.
    """
    from alchemiser_duck.query.arguments import value_of

    name, equals, value = text.partition("=")
    if not equals or not name.strip().isidentifier():
        raise BadParameter(f"{option} {text!r} is not name=value; for example: {option} n=14")
    return name.strip(), value_of(value)
