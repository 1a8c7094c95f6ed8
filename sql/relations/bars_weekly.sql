-- bars_weekly: one bar per symbol and calendar week, made from bars; a source for every indicator.
-- grain: symbol, week | units: USD per share, shares | date, timestamp: of the last session in it
-- is_complete: false while the week may still run: its last session, of the relation sessions, is not there, and no later
-- bar of the symbol is | with the variable since set, the first week may lack its beginning
create or replace view bars_weekly as

    from bars_of_periods('week');

comment on view bars_weekly is 'Bars of calendar weeks, from bars; the running week is marked.';
