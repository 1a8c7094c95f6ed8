-- gaps: runs of sessions without a bar, symbol by symbol.
-- grain: symbol, first_session | sessions: their count from first_session to last_session, both included
-- kind: vendor gap (between two bars), before listing (from the first session stored of any symbol on), after delisting
-- (the symbol was renamed, merged or removed), not delivered (after the last bar: see freshness)
-- allows look-ahead: it knows the first and the last bar of each symbol
create or replace view gaps as

    with

    numbered as (

        select
            date,
            row_number() over (order by date) as number

        from sessions

    ),

    stored as (

        select
            symbol,
            numbered.number,
            lag(numbered.number) over (partition by symbol order by numbered.number) as number_before

        from bars_raw

        join numbered using (date)

    ),

    edges as (

        select
            symbol,
            min(number) as first_number,
            max(number) as last_number,
            min(min(number)) over () as lake_begins

        from stored

        group by symbol

    ),

    runs as (

        select
            symbol,
            number_before + 1 as from_number,
            number - 1 as to_number,
            'vendor gap' as kind

        from stored

        where number - number_before > 1

        union all

        select
            symbol,
            lake_begins as from_number,
            first_number - 1 as to_number,
            'before listing' as kind

        from edges

        where first_number > lake_begins

        union all

        select
            edges.symbol,
            edges.last_number + 1 as from_number,
            numbered.number as to_number,
            case when freshness.status = 'ended' then 'after delisting' else 'not delivered' end as kind

        from edges

        join freshness using (symbol)

        join numbered
            on freshness.expected_session = numbered.date

        where numbered.number > edges.last_number

    )

    select
        runs.symbol,
        first_days.date as first_session,
        last_days.date as last_session,
        runs.to_number - runs.from_number + 1 as sessions,
        runs.kind

    from runs

    join numbered as first_days
        on runs.from_number = first_days.number

    join numbered as last_days
        on runs.to_number = last_days.number;

comment on view gaps is 'Runs of sessions without a bar: vendor gap, before listing, after delisting, not delivered.';
