"""Read queries as Alpaca does, and refuse them in its words."""

import base64
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

Query = dict[str, str]
Item = TypeVar("Item")


class Refusal(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def symbols_of(query: Query) -> list[str]:
    """Return the symbols in serving order; one malformed fails all."""
    names = query.get("symbols", "")
    if not names:
        raise Refusal(400, "symbols is required")
    for symbol in names.split(","):
        if not re.fullmatch(r"[A-Za-z./]+", symbol):
            raise Refusal(400, f"invalid symbol: {symbol}")
    return sorted(set(names.split(",")))


def names_of(query: Query, name: str) -> set[str]:
    """Return the parts of a comma-separated parameter; empty without it."""
    return {part for part in query.get(name, "").split(",") if part}


def limit_of(query: Query, default: int, most: int) -> int:
    """Return the page size: 1 to `most` rows."""
    text = query.get("limit", str(default))
    if not text.isdigit() or not 1 <= int(text) <= most:
        raise Refusal(400, f"invalid limit: {text}")
    return int(text)


def feed_of(query: Query) -> str:
    """Return the feed, SIP unless it says otherwise."""
    feed = query.get("feed", "sip")
    if feed not in ("sip", "iex", "otc", "boats"):
        raise Refusal(400, f"invalid feed: {feed}")
    return feed


def moment_of(query: Query, name: str, default: datetime) -> datetime:
    """Return a parameter as a moment, UTC unless it says otherwise."""
    text = query.get(name)
    if text is None:
        return default
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise Refusal(
            400,
            f"Invalid format for parameter {name}: error parsing '{text}' as RFC3339 or 2006-01-02 time: "
            f'parsing time "{text}" as "2006-01-02": cannot parse "{text}" as "2006"',
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def page_of(
    items: list[Item], rows: int, token: str | None, cursor: Callable[[Item], str]
) -> tuple[list[Item], str | None]:
    """Return a page and, if it is full, the next one's token."""
    begin = 0
    if token:
        try:
            after = base64.b64decode(token, validate=True).decode()
            begin = next(i for i, item in enumerate(items) if cursor(item) == after) + 1
        except (ValueError, StopIteration):
            raise Refusal(400, "invalid page token") from None
    page = items[begin : begin + rows]
    return page, token_of(cursor(page[-1])) if len(page) == rows else None


def token_of(cursor: str) -> str:
    """Return the opaque token of a page that ends with this row."""
    return base64.b64encode(cursor.encode()).decode()
