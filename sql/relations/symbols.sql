-- symbols: the stored bars of each symbol, and its end if it has one.
-- grain: symbol | lens: since and as_of narrow the bars that are counted
-- ended_by: the newest rename, merger, redemption or removal; successor: the symbol that shares turned into, if any
-- RNA-202602 is the series of those who had the ticker RNA until February 2026: ended_by is 'reused'
-- allows look-ahead: it knows how each symbol ends
create or replace view symbols as

    with

    endings as (

        select
            symbol,
            max(ex_date) as ended_on,
            arg_max(type, ex_date) as ended_by,
            arg_max(new_symbol, ex_date) as successor

        from corporate_actions

        where type in (
                'name_change', 'cash_merger', 'stock_merger', 'stock_and_cash_merger', 'redemption',
                'worthless_removal', 'reorganization'
            )
            and override is distinct from 'drop'
            and withdrawn_at is null
            and not coalesce(is_announced, false)
            and new_symbol is distinct from symbol  -- a rename to itself ends nothing

        group by symbol

    ),

    stored as (

        select
            symbol,
            min(date) as first_date,
            max(date) as last_date,
            regexp_matches(symbol, '-[0-9]{6}$') as is_former,
            count(*) as bars,
            count(*) filter (where not is_final) as provisional_bars

        from bars_raw

        group by symbol

    )

    select
        stored.symbol,
        stored.first_date,
        stored.last_date,
        stored.bars,
        stored.provisional_bars,
        coalesce(endings.ended_on, case when stored.is_former then stored.last_date end) as ended_on,
        coalesce(endings.ended_by, case when stored.is_former then 'reused' end) as ended_by,
        endings.successor

    from stored

    left join endings using (symbol);

comment on view symbols is 'Stored bars of each symbol: first and last session, count; renames, mergers, removals.';
