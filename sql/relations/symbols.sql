-- symbols: the stored bars of each symbol, and its end if it has one.
-- grain: symbol | lens: since and as_of narrow the bars that are counted
-- ended_on, ended_by, successor: of its newest listing that has ended, as in listings
-- RNA-202602 is the series of those who had the ticker RNA until February 2026: ended_by is 'reused'
-- halted_on: a person's word, `alchemiser-duck symbols halted`
-- allows look-ahead: it knows how each symbol ends
create or replace view symbols as

    with

    endings as (

        select
            case when ended_by = 'reused' then series else symbol end as symbol,
            max(valid_to) as ended_on,
            arg_max(ended_by, valid_to) as ended_by,
            arg_max(successor, valid_to) as successor

        from listings

        where valid_to is not null

        group by all

    ),

    halts as (

        select
            symbol,
            max(ex_date) as halted_on

        from corporate_actions

        where type = 'halt'

        group by symbol

    ),

    stored as (

        select
            symbol,
            min(date) as first_date,
            -- a bar of a Saturday, which older versions stored, says nothing of Friday's
            coalesce(max(date) filter (isodow(date) < 6), max(date)) as last_date,
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
        endings.ended_on,
        endings.ended_by,
        endings.successor,
        halts.halted_on

    from stored

    left join endings using (symbol)

    left join halts using (symbol);

comment on view symbols is 'Stored bars of each symbol: first and last session, count; renames, mergers, removals.';
