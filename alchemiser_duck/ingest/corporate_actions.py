"""Corporate actions: the vendor's row, the fields SQL reads, and overrides.

Their effect on prices is computed in SQL (`sql/relations/action_factors.sql`) and stored beside them.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from functools import reduce
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from alchemiser_duck.bars import QuarantinedBar
from alchemiser_duck.errors import AlpacaUnavailable

ACTION_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("type", pa.string()),
        ("symbol", pa.string()),
        ("applies_to", pa.string()),
        ("ex_date", pa.date32()),
        ("process_date", pa.date32()),
        ("cash_amount", pa.float64()),
        ("old_rate", pa.float64()),
        ("new_rate", pa.float64()),
        ("new_symbol", pa.string()),
        ("cusip", pa.string()),
        ("new_cusip", pa.string()),
        ("special", pa.bool_()),
        ("previous_close", pa.float64()),
        ("split_factor", pa.float64()),
        ("price_factor", pa.float64()),
        ("status", pa.string()),
        ("rule", pa.int32()),
        ("is_announced", pa.bool_()),
        ("new_close", pa.float64()),
        ("override", pa.string()),
        ("override_values", pa.string()),
        ("override_reason", pa.string()),
        ("overridden_at", pa.timestamp("us", tz="UTC")),
        ("accepted_reason", pa.string()),
        ("accepted_at", pa.timestamp("us", tz="UTC")),
        ("first_seen", pa.timestamp("us", tz="UTC")),
        ("withdrawn_at", pa.timestamp("us", tz="UTC")),
        ("vendor_row", pa.string()),
    ]
)
"""A corporate action: cash_amount USD per share (a stock dividend: new shares per share), rates in shares; factors
multiply the prices before ex_date, and are null while they have no effect or cannot be known. cusip: of the shares
before the action; applies_to: the symbol whose stored prices the factors multiply; withdrawn_at: when the vendor's
complete answer no longer held it."""

FACTORS = ("previous_close", "split_factor", "price_factor", "status", "rule")

RULE = 3
"""The version of the formulas in action_factors.sql: what an older one has made is computed again."""

USER = "user-"
"""How the ids of actions begin that a person has added."""

KEPT = (
    *("override", "override_values", "override_reason", "overridden_at"),
    *("accepted_reason", "accepted_at", "new_close", "first_seen"),
)
"""What stays when the vendor sends an action again."""

JUDGED = ("symbol", "ex_date", "cash_amount", "old_rate", "new_rate", "new_symbol", "special")
"""What a person has looked at who accepts an action."""

MASS_WITHDRAWAL = 10
"""An answer that lacks more actions than these, and most of those known, is taken for a failure of the vendor."""

FIRST_YEAR, LAST_YEAR = 1900, 2200
SMALLEST_AMOUNT, LARGEST_AMOUNT = 1e-9, 1e9
"""USD or shares; beyond them a vendor errs, and factors would be 0 or without bound."""
MOST_SHARES = 1e6
"""New shares for an old one, or the reverse: no split of a listed share was larger."""

_SPLIT = {"symbol": "symbol", "ex_date": "ex_date", "old_rate": "old_rate", "new_rate": "new_rate"}

# per type: our column -> the vendor's field
FIELDS: dict[str, dict[str, str]] = {
    "forward_split": _SPLIT,
    "reverse_split": _SPLIT,
    "unit_split": _SPLIT | {"symbol": "old_symbol", "ex_date": "effective_date", "new_symbol": "new_symbol"},
    "stock_dividend": {"symbol": "symbol", "ex_date": "ex_date", "cash_amount": "rate"},
    "cash_dividend": {"symbol": "symbol", "ex_date": "ex_date", "cash_amount": "rate"},
    "spin_off": _SPLIT | {"symbol": "source_symbol", "old_rate": "source_rate", "new_symbol": "new_symbol"},
    "rights_distribution": {"symbol": "source_symbol", "ex_date": "ex_date", "new_symbol": "new_symbol"},
    "cash_merger": {"symbol": "acquiree_symbol", "ex_date": "effective_date", "cash_amount": "rate"},
    "stock_merger": {"symbol": "acquiree_symbol", "ex_date": "effective_date"},
    "stock_and_cash_merger": {"symbol": "acquiree_symbol", "ex_date": "effective_date", "cash_amount": "cash_rate"},
    "reorganization": {"symbol": "symbol", "ex_date": "effective_date"},
    "name_change": {"symbol": "old_symbol", "ex_date": "process_date", "new_symbol": "new_symbol"},
    "redemption": {"symbol": "symbol", "ex_date": "process_date", "cash_amount": "rate"},
    "worthless_removal": {"symbol": "symbol", "ex_date": "process_date"},
    "partial_call": {"symbol": "symbol", "ex_date": "process_date"},
}

ACCEPTED_MOVE = "accepted_move"
"""The type of a row that says: prices moved so on this day, and no action is missing."""
DELISTING = "delisting"
"""The type of a row that says: from this day on the symbol does not trade any more."""
HALT = "halt"
"""The type of a row that says: trading stopped on this day, and may begin again."""
for _fact in (ACCEPTED_MOVE, DELISTING, HALT):
    FIELDS[_fact] = {"symbol": "symbol", "ex_date": "ex_date"}

# fields that a row may lack
_OPTIONAL = {"stock_merger": {"new_symbol": "acquirer_symbol"}, "cash_merger": {"new_symbol": "acquirer_symbol"}}

_PLURALS = {kind + "s": kind for kind in FIELDS}

Action = dict[str, Any]
"""A row of ACTION_SCHEMA."""


@dataclass(frozen=True)
class MergedActions:
    """The stored actions with the fetched ones among them."""

    actions: pa.Table
    added: int
    changed: int
    ids: frozenset[str]
    """of those added, changed or withdrawn"""
    withdrawn: int = 0
    due: frozenset[str] | None = frozenset()
    """those whose factors were computed; None means all"""


def read_actions(
    lists: Mapping[str, Any], now: datetime, *, announced: bool = False
) -> tuple[list[Action], list[QuarantinedBar]]:
    """Read rows by plural type; malformed ones are set aside.

    Args:
        announced: the vendor has not completed them, so that fields may be missing.
    """
    actions: list[Action] = []
    malformed: list[QuarantinedBar] = []
    for plural, rows in lists.items():
        for row in rows or ():
            try:
                actions.append(action_of(_PLURALS[plural], row, now, announced=announced))
            except (KeyError, TypeError, ValueError, OverflowError) as problem:
                kind = "announced corporate action" if announced else "corporate action"
                reason = f"{kind} in {plural}: {reason_of(problem)}"
                malformed.append(QuarantinedBar(_symbol_of(row), None, reason, json.dumps(row, default=str)))
    return actions, malformed


def _symbol_of(row: Any) -> str:
    if isinstance(row, dict):
        for key in ("symbol", "source_symbol", "old_symbol", "acquiree_symbol"):
            if isinstance(row.get(key), str):
                return str(row[key])
    return "?"


def reason_of(problem: Exception) -> str:
    return f"{problem.args[0]} is missing" if isinstance(problem, KeyError) else str(problem)


def action_of(kind: str, row: Mapping[str, Any], now: datetime, *, announced: bool = False) -> Action:
    if not isinstance(row, dict):
        raise TypeError(f"not a row: {row!r}")
    if not isinstance(row["id"], str) or not row["id"]:
        raise ValueError(f"id {row['id']!r} is none")
    action = {
        **dict.fromkeys(ACTION_SCHEMA.names),
        "id": row["id"],
        "type": kind,
        "process_date": _date("process_date", row["process_date"]),
        "special": bool(row.get("special", False)),
        "first_seen": now,
        **_cusips(row),
        "is_announced": announced,
        "vendor_row": json.dumps(row, sort_keys=True),
        **_values(kind, row, announced=announced),
    }
    for value in action.values():
        if isinstance(value, str):
            value.encode()  # half a surrogate pair, which JSON may hold, cannot be stored
    return action


def _cusips(row: Mapping[str, Any]) -> Action:
    """Read the identity before and after; renames and reverse splits name both."""

    def first(*fields: str) -> str | None:
        return next((row[name] for name in fields if isinstance(row.get(name), str) and row[name]), None)

    return {
        "cusip": first("cusip", "old_cusip", "source_cusip", "acquiree_cusip"),
        "new_cusip": first("new_cusip", "acquirer_cusip"),
    }


def _values(kind: str, row: Mapping[str, Any], *, announced: bool = False) -> Action:
    """Read the columns that SQL computes with; an announced row may lack all but its symbol."""
    fields = FIELDS[kind] | {ours: theirs for ours, theirs in _OPTIONAL.get(kind, {}).items() if theirs in row}
    values: Action = {}
    for ours, theirs in fields.items():
        value = row.get(theirs) if announced and ours != "symbol" else row[theirs]
        if announced and value is None:
            values[ours] = _date("process_date", row["process_date"]) if ours == "ex_date" else None
        elif ours.endswith("_date"):
            values[ours] = _date(theirs, value)
        elif ours in ("symbol", "new_symbol"):
            if not isinstance(value, str) or not value:
                raise ValueError(f"{theirs} {value!r} is no symbol")
            values[ours] = value
        else:
            values[ours] = _amount(theirs, value)
    if row.get("currency") not in (None, "", "USD"):
        values["cash_amount"] = None  # not in the currency of the prices: no factor, and a suspect
    ratio = (values.get("new_rate") or 1) / (values.get("old_rate") or 1)
    if kind in ("forward_split", "reverse_split", "unit_split") and not 1 / MOST_SHARES <= ratio <= MOST_SHARES:
        raise ValueError(f"{ratio:g} new shares for an old one are not believed")
    if kind == "stock_dividend" and (values["cash_amount"] or 0) > MOST_SHARES:
        raise ValueError(f"{values['cash_amount']:g} new shares for an old one are not believed")
    return {**values, "applies_to": values["symbol"]}


def _date(name: str, value: Any) -> date:
    if not isinstance(value, str):
        raise TypeError(f"{name} {value!r} is no date")
    day = date.fromisoformat(value)
    if not FIRST_YEAR <= day.year <= LAST_YEAR:
        raise ValueError(f"{name} {value} is not believed: it is not in the years {FIRST_YEAR} to {LAST_YEAR}")
    return day


def _amount(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError(f"{name} {value!r} is no number")
    number = float(value)
    if not math.isfinite(number) or number <= 0:
        raise ValueError(f"{name} {value!r} is not above zero")
    if not SMALLEST_AMOUNT <= number <= LARGEST_AMOUNT:
        raise ValueError(f"{name} {number:g} is not believed: {SMALLEST_AMOUNT:g} to {LARGEST_AMOUNT:g} is")
    return number


YOUNGER = (
    *("cusip", "new_cusip", "withdrawn_at", "status", "rule", "is_announced", "new_close"),
    *("accepted_reason", "accepted_at"),
)
"""Columns that the tables of older versions lack."""


def in_schema(stored: pa.Table) -> pa.Table:
    """Bring a stored table to ACTION_SCHEMA; columns younger than it are filled in.

    Raises:
        KeyError, pa.ArrowException: it is not a table of corporate actions.
    """
    for name in YOUNGER:
        if name not in stored.schema.names:
            stored = stored.append_column(name, pa.nulls(len(stored), ACTION_SCHEMA.field(name).type))
    if "applies_to" not in stored.schema.names:
        stored = stored.append_column("applies_to", stored["symbol"])
    return stored.select(ACTION_SCHEMA.names).cast(ACTION_SCHEMA)


@dataclass(frozen=True)
class Answer:
    """The bounds of a complete answer: inside of them it is the truth."""

    symbols: frozenset[str]
    """those that were asked for and answered"""
    first: date
    last: date
    """process dates, both included"""
    ids: frozenset[str]
    """of all rows in it, malformed ones too"""
    announced_of: frozenset[str]
    """those of which it holds what is announced, too"""
    at: datetime

    def lacking(self, stored: pa.Table) -> pa.ChunkedArray:
        """Tell which stored actions it would hold if they still stood."""
        processed = stored["process_date"]
        conditions = [
            pc.invert(pc.starts_with(stored["id"], USER)),
            pc.is_in(stored["symbol"], pa.array(self.symbols, pa.string())),
            pc.and_(pc.greater_equal(processed, self.first), pc.less_equal(processed, self.last)),
            pc.invert(pc.is_in(stored["id"], pa.array(self.ids, pa.string()))),
            pc.is_null(stored["withdrawn_at"]),
        ]
        is_known = pc.is_in(stored["symbol"], pa.array(self.announced_of, pa.string()))
        conditions.append(pc.or_(is_known, pc.invert(pc.fill_null(stored["is_announced"], False))))
        return reduce(pc.and_, conditions)


def merge_actions(stored: pa.Table | None, fetched: Iterable[Action], answer: Answer | None = None) -> MergedActions:
    """Merge by id: the vendor's newest row wins, a person's word stays, what an answer lacks is withdrawn.

    Args:
        answer: what the fetched actions are all of; None means they are some, and tell nothing of others.

    Raises:
        AlpacaUnavailable: the answer lacks most of the known actions.
    """
    stored = ACTION_SCHEMA.empty_table() if stored is None else stored
    position = {action_id: index for index, action_id in enumerate(stored["id"].to_pylist())}
    vendor_rows, announced, withdrawn_at = (
        stored[name].to_pylist() for name in ("vendor_row", "is_announced", "withdrawn_at")
    )
    fresh: dict[str, Action] = {}
    for action in fetched:
        index = position.get(action["id"])
        if index is None:
            fresh[action["id"]] = action
        elif (vendor_rows[index], bool(announced[index]), withdrawn_at[index]) == (
            action["vendor_row"], bool(action["is_announced"]), None,
        ):  # fmt: skip
            fresh.pop(action["id"], None)
        else:
            old = stored.slice(index, 1).to_pylist()[0]
            fresh[action["id"]] = overridden({**action, **{name: old[name] for name in (*KEPT, *FACTORS)}}, old)
    lacking = stored.filter(answer.lacking(stored)) if answer else stored.slice(0, 0)
    if answer:
        _require_plausible(stored, lacking, answer)
    withdrawn = {row["id"]: {**row, "withdrawn_at": answer.at} for row in lacking.to_pylist()} if answer else {}
    changed = {**withdrawn, **fresh}
    if not changed:
        return MergedActions(stored, 0, 0, frozenset())
    others = stored.filter(pc.invert(pc.is_in(stored["id"], pa.array(sorted(changed), pa.string()))))
    added = len(fresh.keys() - position.keys())
    merged = _sorted(pa.concat_tables([others, pa.Table.from_pylist(list(changed.values()), schema=ACTION_SCHEMA)]))
    return MergedActions(merged, added, len(fresh) - added, frozenset(changed), len(withdrawn))


@dataclass(frozen=True, slots=True)
class SpinOff:
    """A spin-off whose new share has no price."""

    id: str
    new_symbol: str
    ex_date: date


def with_new_closes(stored: pa.Table, closes: Mapping[str, float]) -> pa.Table:
    """Store first closes of spun-off shares, by the id of the spin-off."""
    values = [closes.get(row["id"], row["new_close"]) for row in stored.select(["id", "new_close"]).to_pylist()]
    place = stored.schema.get_field_index("new_close")
    return stored.set_column(place, "new_close", pa.array(values, pa.float64())) if closes else stored


def _require_plausible(stored: pa.Table, lacking: pa.Table, answer: Answer) -> None:
    answered = pc.sum(pc.is_in(stored["id"], pa.array(answer.ids, pa.string()))).as_py() or 0
    if lacking.num_rows > max(MASS_WITHDRAWAL, answered):
        raise AlpacaUnavailable(
            f"the answer lacks {lacking.num_rows} of the known corporate actions and holds {answered}: nothing was "
            "changed; if they were withdrawn, alchemiser-duck actions override ID --drop says so of one"
        )


def _sorted(actions: pa.Table) -> pa.Table:
    return actions.sort_by([("symbol", "ascending"), ("ex_date", "ascending"), ("id", "ascending")])


def table_of(rows: Iterable[Action]) -> pa.Table:
    return _sorted(pa.Table.from_pylist(list(rows), schema=ACTION_SCHEMA))


def overridden(action: Action, before: Action) -> Action:
    """Replace the vendor's values by those of the action's override.

    A first close stays as long as it is the close of the same share from the same day on, and what a person has
    accepted as long as it says the same.
    """
    row = json.loads(action["vendor_row"])
    row |= json.loads(action["override_values"] or "{}")
    changed = {**action, **_values(action["type"], row)}
    if any(changed.get(name) != before[name] for name in ("new_symbol", "ex_date")):
        changed["new_close"] = None
    if any(changed.get(name) != before[name] for name in JUDGED):
        changed |= {"accepted_reason": None, "accepted_at": None}
    return changed
