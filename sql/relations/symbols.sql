-- symbols: what is stored of each symbol.
-- grain: symbol | seen through the lens: since and as_of narrow what is counted
create or replace view symbols as

    select
        symbol,
        min(date) as first_date,
        max(date) as last_date,
        count(*) as bars,
        count(*) filter (where not is_final) as provisional_bars

    from bars_raw

    group by symbol;

comment on view symbols is 'First and last session and number of bars of each stored symbol.';
