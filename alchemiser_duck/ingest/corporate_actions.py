"""Corporate actions: the vendor's row, the fields SQL reads, and overrides.

Their effect on prices is computed in SQL (`sql/relations/action_factors.sql`) and stored beside them.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from alchemiser_duck.bars import QuarantinedBar
from alchemiser_duck.errors import BadParameter, did_you_mean

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
        ("override", pa.string()),
        ("override_values", pa.string()),
        ("override_reason", pa.string()),
        ("overridden_at", pa.timestamp("us", tz="UTC")),
        ("first_seen", pa.timestamp("us", tz="UTC")),
        ("withdrawn_at", pa.timestamp("us", tz="UTC")),
        ("vendor_row", pa.string()),
    ]
)
"""A corporate action: cash_amount USD per share (a stock dividend: new shares per share), rates in shares; factors
multiply the prices before ex_date, and are null while they have no effect or cannot be known. cusip: of the shares
before the action; applies_to: the symbol whose stored prices the factors multiply; withdrawn_at: when the vendor's
complete answer no longer held it."""

FACTORS = ("previous_close", "split_factor", "price_factor")

_SPLIT = {"symbol": "symbol", "ex_date": "ex_date", "old_rate": "old_rate", "new_rate": "new_rate"}

# per type: our column -> the vendor's field
_FIELDS: dict[str, dict[str, str]] = {
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

# fields that a row may lack
_OPTIONAL = {"stock_merger": {"new_symbol": "acquirer_symbol"}, "cash_merger": {"new_symbol": "acquirer_symbol"}}

_PLURALS = {kind + "s": kind for kind in _FIELDS}

Action = dict[str, Any]
"""A row of ACTION_SCHEMA."""


@dataclass(frozen=True)
class MergedActions:
    """The stored actions with the fetched ones among them."""

    actions: pa.Table
    added: int
    changed: int
    ids: frozenset[str]
    """of those added or changed"""


def read_actions(lists: Mapping[str, Any], now: datetime) -> tuple[list[Action], list[QuarantinedBar]]:
    """Read rows by plural type; malformed ones are set aside."""
    actions: list[Action] = []
    malformed: list[QuarantinedBar] = []
    for plural, rows in lists.items():
        for row in rows or ():
            try:
                actions.append(_action(_PLURALS[plural], row, now))
            except (KeyError, TypeError, ValueError) as problem:
                reason = f"corporate action in {plural}: {_reason(problem)}"
                malformed.append(QuarantinedBar(_symbol_of(row), None, reason))
    return actions, malformed


def _symbol_of(row: Any) -> str:
    if isinstance(row, dict):
        for key in ("symbol", "source_symbol", "old_symbol", "acquiree_symbol"):
            if isinstance(row.get(key), str):
                return str(row[key])
    return "?"


def _reason(problem: Exception) -> str:
    return f"{problem.args[0]} is missing" if isinstance(problem, KeyError) else str(problem)


def _action(kind: str, row: Mapping[str, Any], now: datetime) -> Action:
    if not isinstance(row, dict):
        raise TypeError(f"not a row: {row!r}")
    if not isinstance(row["id"], str) or not row["id"]:
        raise ValueError(f"id {row['id']!r} is none")
    return {
        **dict.fromkeys(ACTION_SCHEMA.names),
        "id": row["id"],
        "type": kind,
        "process_date": _date("process_date", row["process_date"]),
        "special": bool(row.get("special", False)),
        "first_seen": now,
        **_cusips(row),
        "vendor_row": json.dumps(row, sort_keys=True),
        **_values(kind, row),
    }


def _cusips(row: Mapping[str, Any]) -> Action:
    """Read the identity before and after; renames and reverse splits name both."""

    def first(*fields: str) -> str | None:
        return next((row[name] for name in fields if isinstance(row.get(name), str) and row[name]), None)

    return {
        "cusip": first("cusip", "old_cusip", "source_cusip", "acquiree_cusip"),
        "new_cusip": first("new_cusip", "acquirer_cusip"),
    }


def _values(kind: str, row: Mapping[str, Any]) -> Action:
    """Read the columns that SQL computes with."""
    fields = _FIELDS[kind] | {ours: theirs for ours, theirs in _OPTIONAL.get(kind, {}).items() if theirs in row}
    values: Action = {}
    for ours, theirs in fields.items():
        value = row[theirs]
        if ours.endswith("_date"):
            values[ours] = _date(theirs, value)
        elif ours in ("symbol", "new_symbol"):
            if not isinstance(value, str) or not value:
                raise ValueError(f"{theirs} {value!r} is no symbol")
            values[ours] = value
        else:
            values[ours] = _amount(theirs, value)
    if row.get("currency") not in (None, "", "USD"):
        values["cash_amount"] = None  # not in the currency of the prices: no factor, and a suspect
    return {**values, "applies_to": values["symbol"]}


def _date(name: str, value: Any) -> date:
    if not isinstance(value, str):
        raise TypeError(f"{name} {value!r} is no date")
    return date.fromisoformat(value)


def _amount(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError(f"{name} {value!r} is no number")
    number = float(value)
    if not math.isfinite(number) or number <= 0:
        raise ValueError(f"{name} {value!r} is not above zero")
    return number


def in_schema(stored: pa.Table) -> pa.Table:
    """Bring a stored table to ACTION_SCHEMA; columns younger than it are filled in.

    Raises:
        KeyError, pa.ArrowException: it is not a table of corporate actions.
    """
    for name in ("cusip", "new_cusip", "withdrawn_at"):
        if name not in stored.schema.names:
            stored = stored.append_column(name, pa.nulls(len(stored), ACTION_SCHEMA.field(name).type))
    if "applies_to" not in stored.schema.names:
        stored = stored.append_column("applies_to", stored["symbol"])
    return stored.select(ACTION_SCHEMA.names).cast(ACTION_SCHEMA)


def merge_actions(stored: pa.Table | None, fetched: Iterable[Action]) -> MergedActions:
    """Merge by id: the vendor's newest row wins, overrides and factors stay."""
    stored = ACTION_SCHEMA.empty_table() if stored is None else stored
    position = {action_id: index for index, action_id in enumerate(stored["id"].to_pylist())}
    vendor_rows = stored["vendor_row"].to_pylist()
    fresh: dict[str, Action] = {}
    for action in fetched:
        index = position.get(action["id"])
        if index is None:
            fresh[action["id"]] = action
        elif vendor_rows[index] == action["vendor_row"]:
            fresh.pop(action["id"], None)
        else:
            old = stored.slice(index, 1).to_pylist()[0]
            kept = ("override", "override_values", "override_reason", "overridden_at", "first_seen", *FACTORS)
            fresh[action["id"]] = _with_override({**action, **{name: old[name] for name in kept}})
    if not fresh:
        return MergedActions(stored, 0, 0, frozenset())
    ids = pa.array(sorted(fresh), pa.string())
    others = stored.filter(pc.invert(pc.is_in(stored["id"], ids)))
    added = len(fresh.keys() - position.keys())
    merged = _sorted(pa.concat_tables([others, pa.Table.from_pylist(list(fresh.values()), schema=ACTION_SCHEMA)]))
    return MergedActions(merged, added, len(fresh) - added, frozenset(fresh))


def _sorted(actions: pa.Table) -> pa.Table:
    return actions.sort_by([("symbol", "ascending"), ("ex_date", "ascending"), ("id", "ascending")])


def _table(rows: Iterable[Action]) -> pa.Table:
    return _sorted(pa.Table.from_pylist(list(rows), schema=ACTION_SCHEMA))


def _with_override(action: Action) -> Action:
    """Replace the vendor's values by those of the action's override."""
    row = json.loads(action["vendor_row"])
    row |= json.loads(action["override_values"] or "{}")
    return {**action, **_values(action["type"], row)}


def with_override(
    stored: pa.Table, action_id: str, values: Mapping[str, Any] | None, reason: str, now: datetime
) -> pa.Table:
    """Override one of the actions.

    Args:
        values: the vendor's fields to replace, as `rate` or `old_rate`; None drops the action.

    Raises:
        BadParameter: there is no such action, it has no such field, or the value does not fit.
    """
    if not reason.strip():
        raise BadParameter("an override needs a reason: add --reason 'what the company says'")
    rows = {row["id"]: row for row in stored.to_pylist()}
    action = _known(rows, action_id)
    fields = set(_FIELDS[action["type"]].values())
    if unknown := sorted(set(values or {}) - fields):
        raise BadParameter(f"a {action['type']} has no {unknown[0]}; it has {', '.join(sorted(fields))}")
    marks = {
        "override": "drop" if values is None else "replace",
        "override_values": None if values is None else json.dumps(dict(values), sort_keys=True),
        "override_reason": reason.strip(),
        "overridden_at": now,
    }
    try:
        rows[action_id] = _with_override({**action, **marks})
    except (KeyError, TypeError, ValueError) as problem:
        raise BadParameter(f"the override does not fit: {_reason(problem)}") from problem
    return _table(rows.values())


def without_override(stored: pa.Table, action_id: str) -> pa.Table:
    """Restore the vendor's word for one of the actions.

    Raises:
        BadParameter: there is no such action.
    """
    rows = {row["id"]: row for row in stored.to_pylist()}
    blank = dict.fromkeys(("override", "override_values", "override_reason", "overridden_at"))
    rows[action_id] = _with_override({**_known(rows, action_id), **blank})
    return _table(rows.values())


def _known(rows: Mapping[str, Action], action_id: str) -> Action:
    if action_id not in rows:
        raise BadParameter(
            f"there is no corporate action {action_id!r}{did_you_mean(action_id, rows)}; to list those of a symbol: "
            "alchemiser-duck actions list AAPL"
        )
    return rows[action_id]
