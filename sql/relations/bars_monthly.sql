-- bars_monthly: one bar per symbol and calendar month, made from bars; a source for every indicator.
-- grain: symbol, month | units: USD per share, shares | date, timestamp: of the last session in it
-- is_complete: false while the month may still run: its last session, of the relation sessions, is not there, and no later
-- bar of the symbol is | with the variable since set, the first month may lack its beginning
create or replace view bars_monthly as

    from bars_of_periods('month');

comment on view bars_monthly is 'Bars of calendar months, from bars; the running month is marked.';
