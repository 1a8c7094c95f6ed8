"""Settle what is odd about corporate actions: override, accept, add, and take all of it back."""

import json
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from typing import Any

import pyarrow as pa

from alchemiser_duck.errors import BadParameter, did_you_mean
from alchemiser_duck.ingest.corporate_actions import (
    ACCEPTED_MOVE,
    DELISTING,
    FIELDS,
    HALT,
    USER,
    Action,
    action_of,
    overridden,
    reason_of,
    table_of,
)

_OF_A_PERSON = (
    *("override", "override_values", "override_reason", "overridden_at"),
    *("accepted_reason", "accepted_at"),
)

ADDABLE = frozenset(
    {
        *("forward_split", "reverse_split", "stock_dividend", "cash_dividend", "spin_off"),
        *(ACCEPTED_MOVE, DELISTING, HALT),
    }
)
"""Types that a person may add."""


def with_override(
    stored: pa.Table, action_id: str, values: Mapping[str, Any] | None, reason: str, now: datetime
) -> pa.Table:
    """Override one of the actions.

    Args:
        values: the vendor's fields to replace, as `rate` or `old_rate`; None drops the action.

    Raises:
        BadParameter: there is no such action, it has no such field, or the value does not fit.
    """
    _require_reason(reason)
    rows = {row["id"]: row for row in stored.to_pylist()}
    action = _known(rows, action_id)
    fields = set(FIELDS[action["type"]].values())
    if unknown := sorted(set(values or {}) - fields):
        raise BadParameter(f"a {action['type']} has no {unknown[0]}; it has {', '.join(sorted(fields))}")
    marks = {
        "override": "drop" if values is None else "replace",
        "override_values": None if values is None else json.dumps(dict(values), sort_keys=True),
        "override_reason": reason.strip(),
        "overridden_at": now,
    }
    try:
        rows[action_id] = overridden({**action, **marks}, action)
    except (KeyError, TypeError, ValueError) as problem:
        raise BadParameter(f"the override does not fit: {reason_of(problem)}") from problem
    return table_of(rows.values())


def without_override(stored: pa.Table, action_id: str) -> pa.Table:
    """Restore the vendor's word for one of the actions; one that a person has added goes.

    Raises:
        BadParameter: there is no such action.
    """
    rows = {row["id"]: row for row in stored.to_pylist()}
    action = _known(rows, action_id)
    if action_id.startswith(USER):
        del rows[action_id]
    else:
        rows[action_id] = overridden({**action, **dict.fromkeys(_OF_A_PERSON)}, action)
    return table_of(rows.values())


def accepted(stored: pa.Table, action_ids: Iterable[str], reason: str, now: datetime) -> pa.Table:
    """Mark actions as right, however odd they look.

    Raises:
        BadParameter: one of them is not there, or there is no reason.
    """
    _require_reason(reason)
    rows = {row["id"]: row for row in stored.to_pylist()}
    for action_id in action_ids:
        rows[action_id] = {**_known(rows, action_id), "accepted_reason": reason.strip(), "accepted_at": now}
    return table_of(rows.values())


def of_a_person(kind: str, symbol: str, ex_date: date, values: Mapping[str, Any], reason: str, now: datetime) -> Action:
    """Make an action that the vendor does not have.

    Args:
        kind: one of the types, or ACCEPTED_MOVE: the prices of that day moved so.
        values: the vendor's fields, as `rate` or `old_rate`.

    Raises:
        BadParameter: there is no such type or field, a value does not fit, or there is no reason.
    """
    _require_reason(reason)
    if kind not in ADDABLE:
        raise BadParameter(f"an action that is added is one of {', '.join(sorted(ADDABLE))}, not {kind!r}")
    fields = {theirs for ours, theirs in FIELDS[kind].items() if ours not in ("symbol", "ex_date")}
    if unknown := sorted(set(values) - fields):
        raise BadParameter(f"a {kind} has no {unknown[0]}; it has {', '.join(sorted(fields)) or 'no values'}")
    day = ex_date.isoformat()
    text = "-".join([kind, symbol, day, *(f"{name}{values[name]}" for name in sorted(values))])
    row = {
        "id": f"{USER}{text}",
        "process_date": day,
        "symbol": symbol,
        "source_symbol": symbol,
        "ex_date": day,
        **values,
    }
    try:
        action = action_of(kind, row, now)
    except (KeyError, TypeError, ValueError) as problem:
        raise BadParameter(f"the action does not fit: {reason_of(problem)}; say it with --set field=value") from problem
    return {**action, "accepted_reason": reason.strip(), "accepted_at": now}


def _require_reason(reason: str) -> None:
    if not reason.strip():
        raise BadParameter("this needs a reason: add --reason 'what the company says'")


def _known(rows: Mapping[str, Action], action_id: str) -> Action:
    if action_id not in rows:
        raise BadParameter(
            f"there is no corporate action {action_id!r}{did_you_mean(action_id, rows)}; to list those of a symbol: "
            "alchemiser-duck actions list AAPL"
        )
    return rows[action_id]
