"""CorporateActionStore: the corporate actions on S3 with their factors, as one object.

One object is one atomic state: factors never belong to other actions than those beside them.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from alchemiser_duck.errors import CorruptPartition, EmptyLake
from alchemiser_duck.ingest.corporate_actions import (
    ACCEPTED_MOVE,
    ACTION_SCHEMA,
    FACTORS,
    RULE,
    Action,
    Answer,
    MergedActions,
    SpinOff,
    in_schema,
    merge_actions,
    with_new_closes,
)
from alchemiser_duck.ingest.identities import Rename, renames_in
from alchemiser_duck.ingest.settlement import accepted, of_a_person, with_override, without_override
from alchemiser_duck.lake.keys import ACTIONS, ACTIONS_VERSION, partition
from alchemiser_duck.lake.object_store import PreconditionFailed, S3Objects
from alchemiser_duck.lake.parquet import small_parquet
from alchemiser_duck.lake.scan import Scan
from alchemiser_duck.query.literals import literal
from alchemiser_duck.query.session import DuckDBSession
from alchemiser_duck.query.statement import Lens, Query
from alchemiser_duck.query.suspects import LABEL, PENDING, Suspect, decoded, encoded
from alchemiser_duck.settings import Settings

FACTOR_RETRIES = timedelta(days=30)
"""For this long after its ex-date, runs that do not compute everything try an action without a factor again."""

MOVED_AT_MOST = timedelta(days=7)
"""One split under two days no further apart is one split, as action_factors.sql says."""

SUSPECTS_KEPT = 10_000
"""Suspects, the newest ones, that reads are warned of."""

LONGEST_HALT = timedelta(days=366)
"""The close before an ex-date lies no further back: no symbol comes back from a longer halt."""

_SUSPECTS = """
select symbol, date, id, suspicion

from corporate_action_suspects

where not is_question

order by date desc, symbol, suspicion, id
"""


class CorporateActionStore:
    """Corporate actions on S3: read, merge, conditional write."""

    def __init__(self, settings: Settings, objects: S3Objects, session: DuckDBSession) -> None:
        self._settings = settings
        self._objects = objects
        self._session = session
        self.version = 0
        """of the object as this store read or wrote it last; a later one is greater"""
        self._at_least = 0
        self._seen: tuple[pa.Table, list[Suspect]] = (ACTION_SCHEMA.empty_table(), [])

    def be_at_least(self, version: int) -> None:
        """Give the object this version at the next write, and write it even if that is all."""
        self._at_least = max(self._at_least, version)

    def begin(self) -> None:
        """Say in a new lake that no action is known yet: readers take a lake that says nothing for a broken one."""
        with suppress(PreconditionFailed):
            self._objects.put(ACTIONS, small_parquet(ACTION_SCHEMA.empty_table()), replaces=None)

    def merge(
        self,
        fetched: Iterable[Action],
        today: date,
        *,
        everything: bool,
        answer: Answer | None = None,
        ahead_of: date | None = None,
    ) -> MergedActions:
        """Take in fetched actions and compute the factors that are due.

        It writes only what changes something.

        Args:
            answer: what the fetched ones are all of, so that others are withdrawn.
            everything: compute every factor again from the stored bars, which a restated bar may have changed; else
                only those of new and changed actions, and of recent ones that have none yet.
            ahead_of: the last session whose bars are stored after this: its actions count from now on. An action
                without the bar that it needs is noted as pending, for readers to be warned.
        """
        actions_fetched = list(fetched)
        merged = merge_actions(None, ())

        def change(stored: pa.Table | None, suspects: list[Suspect]) -> tuple[pa.Table, list[Suspect]]:
            nonlocal merged
            merged = merge_actions(stored, actions_fetched, answer)
            if everything or (merged.ids and ahead_of and stored is not None):
                merged = replace(merged, actions=self._with_owners(merged.actions))
            is_older = stored is not None and pc.any(pc.not_equal(pc.fill_null(stored["rule"], 0), RULE)).as_py()
            due = None if everything or is_older else _due(merged, today)
            merged = replace(merged, due=due)
            actions = self.with_factors(merged.actions, due, ahead_of)
            settled = [suspect for suspect in suspects if suspect.suspicion != PENDING]
            return actions, settled + (_pending(actions, due, ahead_of) if ahead_of else [])

        self._rewrite(change)
        return merged

    def unpriced_spin_offs(self, ids: frozenset[str] | None, last: date) -> list[SpinOff]:
        """Return the spin-offs until a day whose new share has no price, as this store saw them last.

        Args:
            ids: as `merge` gave them; None means all.
        """
        rows = self._seen[0].filter(pc.equal(self._seen[0]["status"], "unknown")).to_pylist()
        return [
            SpinOff(row["id"], row["new_symbol"], row["ex_date"])
            for row in rows
            if row["type"] == "spin_off" and row["new_symbol"] and row["new_close"] is None
            if row["ex_date"] <= last and (ids is None or row["id"] in ids)
        ]

    def settle(self, ids: frozenset[str] | None, new_closes: Mapping[str, float]) -> None:
        """Compute factors again once the bars are stored that `merge` was ahead of.

        Args:
            ids: as `merge` gave them; None means all, and the owners of all.
            new_closes: first closes of spun-off shares, by the id of the spin-off.
        """

        def change(stored: pa.Table | None, suspects: list[Suspect]) -> tuple[pa.Table, list[Suspect]]:
            actions = with_new_closes(_or_empty(stored), new_closes)
            actions = self._with_owners(actions) if ids is None else actions
            return self.with_factors(actions, ids), [each for each in suspects if each.suspicion != PENDING]

        if ids is None or ids:
            self._rewrite(change)

    def override(self, action_id: str, values: Mapping[str, Any] | None, reason: str, now: datetime) -> None:
        """Replace fields of an action until `restore`; values None drops it.

        Raises:
            BadParameter: there is no such action or field, the value does not fit, or there is no reason.
        """
        self._change(lambda stored: with_override(stored, action_id, values, reason, now))

    def restore(self, action_id: str) -> None:
        """Let the vendor's word count again.

        Raises:
            BadParameter: there is no such action.
        """
        self._change(lambda stored: without_override(stored, action_id))

    def accept(self, what: str, day: date | None, reason: str, now: datetime) -> None:
        """Settle suspects: an action is right, or prices moved so on a day and no action is missing.

        Args:
            what: an action's id; or a symbol, with the day.

        Raises:
            BadParameter: there is no such action, or no reason.
        """

        def change(stored: pa.Table) -> pa.Table:
            if day is None:
                return accepted(stored, [what], reason, now)
            here = pc.and_(pc.equal(stored["applies_to"], what), pc.equal(stored["ex_date"], day))
            marked = accepted(stored, stored.filter(here)["id"].to_pylist(), reason, now)
            return merge_actions(marked, [of_a_person(ACCEPTED_MOVE, what, day, {}, reason, now)]).actions

        self._change(change)

    def add(self, kind: str, symbol: str, day: date, values: Mapping[str, Any], reason: str, now: datetime) -> str:
        """Add an action that the vendor does not have, and return its id; when it sends the same, that one counts.

        Raises:
            BadParameter: the type or a value does not fit, or there is no reason.
        """
        action = of_a_person(kind, symbol, day, values, reason, now)
        self._change(lambda stored: merge_actions(stored, [action]).actions)
        return str(action["id"])

    def _change(self, change: Callable[[pa.Table], pa.Table]) -> None:
        self.rewrite(lambda stored: self.with_factors(change(_or_empty(stored))))
        self.note_suspects()

    def rewrite(self, change: Callable[[pa.Table | None], pa.Table | None]) -> None:
        """Replace the stored actions by what `change` makes of them; None leaves them.

        Raises:
            WriteConflict: other writers were faster every time.
            CorruptPartition: the stored object is not one of ours.
        """
        self._rewrite(lambda stored, suspects: (change(stored), suspects))

    def _rewrite(
        self, change: Callable[[pa.Table | None, list[Suspect]], tuple[pa.Table | None, list[Suspect]]]
    ) -> None:
        """Replace actions and noted suspects by what `change` makes of them, if that is something else.

        If another writer was faster, they are read and changed again; raises as `rewrite` does.
        """

        def step(_: int) -> None:
            stored = self._objects.get(ACTIONS)
            before = self._decode(stored.body) if stored else None
            labels = _labels(stored.body) if stored else {}
            suspects = decoded(labels.get(LABEL))
            self.version = int(labels.get(ACTIONS_VERSION, 0))
            after, noted = change(before, suspects)
            self._seen = (_or_empty(before) if after is None else after, noted)
            is_same = after is None or (before is not None and after.equals(before))
            if after is None or (is_same and noted == suspects and self.version >= self._at_least):
                return
            # a clock, so that a new object counts for newer than the one that a person moved away
            version = max(self.version + 1, self._at_least, time.time_ns() // 1_000_000)
            labels = {ACTIONS_VERSION: str(version)} | ({LABEL: encoded(noted)} if noted else {})
            body = small_parquet(after.replace_schema_metadata(labels))
            self._objects.put(ACTIONS, body, replaces=stored.etag if stored else None)
            self.version = version

        self._objects.until_written(ACTIONS, step)

    def renames(self) -> frozenset[Rename]:
        """Return the renames that are stored; none where nothing is."""
        stored = self._objects.get(ACTIONS)
        if stored is None:
            return frozenset()
        actions = self._decode(stored.body)
        return renames_in(actions.filter(pc.equal(actions["type"], "name_change")).to_pylist())

    def _with_owners(self, actions: pa.Table) -> pa.Table:
        """Say of each action which stored series it changes."""
        if not actions.num_rows:
            return actions
        owners = self._computed("action_owners('due_actions')", ("id", "applies_to"), actions, None)
        if not owners.num_rows:
            return actions
        rows = pc.index_in(actions["id"], owners["id"].combine_chunks())
        place = actions.schema.get_field_index("applies_to")
        return actions.set_column(place, "applies_to", owners["applies_to"].combine_chunks().take(rows))

    def with_factors(
        self, actions: pa.Table, ids: frozenset[str] | None = None, ahead_of: date | None = None
    ) -> pa.Table:
        """Compute factors of these ids (None means all) from the stored bars."""
        is_due = pa.repeat(True, len(actions)) if ids is None else pc.is_in(actions["id"], pa.array(ids, pa.string()))
        due = actions.filter(is_due)
        if not due.num_rows:
            return actions
        factors = self._factors(due, pc.min(due["ex_date"]).as_py() - LONGEST_HALT, ahead_of)
        rows = pc.index_in(actions["id"], factors["id"])
        for name in FACTORS:
            column = pc.if_else(is_due, factors[name].combine_chunks().take(rows), actions[name])
            actions = actions.set_column(actions.schema.get_field_index(name), name, column)
        return actions.cast(ACTION_SCHEMA)

    def note_suspects(self) -> list[Suspect]:
        """Find the suspects that are likely to be wrong, and write them where every read of prices sees them."""
        try:
            scan = Scan(may_lack_actions=True)
            found = [Suspect(*row) for row in self._session.read(Query(_SUSPECTS, _SUSPECTS), scan).fetchall()]
        except EmptyLake:
            return []
        self._rewrite(lambda stored, _: (stored, found[:SUSPECTS_KEPT]))
        return found

    def note_new_suspects(self, bars: pa.Table, since: date) -> list[Suspect]:
        """Look for suspects among a few bars just stored; nothing is read from S3, and what is noted of others stays.

        Args:
            bars: in BAR_SCHEMA, from the session before the first one that is looked at.
            since: days after this one are looked at.
        """
        if not bars.num_rows:
            return []
        actions, noted = self._seen
        objects = {partition(pc.max(bars["date"]).as_py().year): bars, ACTIONS: actions}
        rows = self._session.over(objects, _SUSPECTS, Lens(since=since))
        found = [Suspect(*row) for row in rows]
        if found != [suspect for suspect in noted if suspect.session > since]:
            self._rewrite(
                lambda stored, noted: (
                    _or_empty(stored),
                    (found + [suspect for suspect in noted if suspect.session <= since])[:SUSPECTS_KEPT],
                )
            )
        return found

    def _factors(self, actions: pa.Table, since: date, ahead_of: date | None) -> pa.Table:
        """Compute id, previous close, factors and status in SQL; empty without bars."""
        expected = f", expected := {literal(ahead_of)}" if ahead_of else ""
        return self._computed(f"action_factors('due_actions'{expected})", ("id", *FACTORS), actions, since)

    def _computed(self, source: str, names: Sequence[str], actions: pa.Table, since: date | None) -> pa.Table:
        """Read a macro over actions that are not stored yet, beside the stored bars; empty without bars."""
        text = f"select {', '.join(names)} from {source}"
        query = Query(text, text, Lens(since=since), tables={"due_actions": actions})
        try:
            rows = self._session.read(query, Scan(since, may_lack_actions=True))
        except EmptyLake:
            return ACTION_SCHEMA.empty_table().select(names)
        return rows.to_arrow_table()

    def _decode(self, body: bytes) -> pa.Table:
        try:
            return in_schema(pq.read_table(pa.BufferReader(body)))
        except (pa.ArrowException, KeyError, ValueError, OSError) as problem:
            raise CorruptPartition(
                f"{self._settings.lake_url}/{ACTIONS} is not a table of corporate actions of ours ({problem}): it was "
                "left as it is; move it away and refresh again"
            ) from problem


def _due(merged: MergedActions, today: date) -> frozenset[str]:
    """Return the ids that a quick run computes, with those that the same split may have been moved to."""
    rows = merged.actions.select(["id", "applies_to", "ex_date", "price_factor"]).to_pylist()
    days: dict[str, set[date]] = defaultdict(set)
    for row in rows:
        is_recent = row["price_factor"] is None and today - FACTOR_RETRIES <= row["ex_date"] <= today
        if row["id"] in merged.ids or is_recent:
            days[row["applies_to"]].add(row["ex_date"])
    return frozenset(
        row["id"]
        for row in rows
        if any(abs(row["ex_date"] - day) <= MOVED_AT_MOST for day in days.get(row["applies_to"], ()))
    )


def _pending(actions: pa.Table, due: frozenset[str] | None, ahead_of: date) -> list[Suspect]:
    """Name the symbols with an action whose effect is known only once their bars are stored, by its newest one."""
    is_pending = pc.and_(pc.equal(actions["status"], "unknown"), pc.is_null(actions["previous_close"]))
    rows = actions.filter(pc.and_(is_pending, pc.less_equal(actions["ex_date"], ahead_of))).to_pylist()
    newest = {row["applies_to"]: row for row in sorted(rows, key=lambda row: row["ex_date"])}
    return [
        Suspect(symbol, row["ex_date"], row["id"], PENDING)
        for symbol, row in sorted(newest.items())
        if due is None or row["id"] in due
    ]


def _labels(body: bytes) -> dict[str, str]:
    """Return the metadata of an actions' object."""
    metadata = pq.read_schema(pa.BufferReader(body)).metadata or {}
    return {key.decode(): value.decode() for key, value in metadata.items() if key != b"ARROW:schema"}


def _or_empty(stored: pa.Table | None) -> pa.Table:
    return ACTION_SCHEMA.empty_table() if stored is None else stored
