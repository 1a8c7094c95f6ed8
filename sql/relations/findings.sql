-- findings: stale or broken bars that can be fetched again; `alchemiser-duck check` lists them, `repair` fetches them.
-- grain: symbol, finding, first_session | first_session to last_session: the range to ask the vendor for, both included
-- stale: sessions that should be there by now | vendor gap: sessions between two bars that no refresh has asked for since
-- not finalised: a provisional bar older than the night after it | quarantined: a bar that was turned away lately
-- those of corporate_action_suspects, until `alchemiser-duck actions accept`, `add` or `override` settles them
-- high outlier, low outlier, out of level: as in anomalies, until `alchemiser-duck bars override` or `accept` settles them
-- no bar of any symbol: a session without a bar in the whole lake, between days that have some: a closure that the
-- calendar does not know | bars without a session: those of two symbols or more were turned away on a day that is none
-- symbol is * where a finding is about the lake
-- allows look-ahead: it knows later repairs
create or replace view findings as

    with

    clock as (

        select coalesce(getvariable('now')::timestamptz, now()) as moment

    ),

    recent_runs as (

        select
            started_at,
            first_session,
            last_session,
            outcomes,
            quarantined

        from refresh_runs

        cross join clock

        where date >= cast(coalesce(getvariable('now')::timestamptz, now()) - interval 10 day as date)
            and started_at <= moment

    ),

    answered as (

        select
            outcome.symbol,
            started_at,
            first_session,
            last_session

        from (select started_at, first_session, last_session, unnest(outcomes) as outcome from recent_runs)

        where outcome.status in ('ok', 'no_data')

    ),

    -- one symbol alone may just not have traded
    empty_sessions as (

        select sessions.date

        from sessions

        anti join bars_raw using (date)

        join symbols
            on sessions.date > symbols.first_date
            and sessions.date < symbols.last_date

        group by sessions.date

        having count(*) > 1

    ),

    turned_away as (

        select distinct
            bar.symbol,
            cast(timezone('America/New_York', bar.timestamp) as date) as date,
            last_value(bar.reason) over (
                partition by bar.symbol, bar.timestamp
                order by started_at
                rows between unbounded preceding and unbounded following
            ) as reason

        from (select started_at, unnest(quarantined) as bar from recent_runs)

        where bar.timestamp is not null

    ),

    off_the_mark as (

        select
            symbol,
            date,
            anomaly,
            value,
            detail

        from anomalies

        where anomaly in ('high outlier', 'low outlier', 'out of level')

    ),

    open_suspects as (

        select
            symbol,
            date,
            suspicion,
            detail

        from corporate_action_suspects

        cross join clock

        -- what may well be news is asked for ten days, what is likely to be wrong until it is settled
        where not is_question
            or date >= cast(moment as date) - 10

    ),

    findings as (

        select
            freshness.symbol,
            'stale' as finding,
            gaps.first_session,
            gaps.last_session,
            'the last bar is of ' || freshness.last_date || ', ' || sessions_behind || ' sessions behind' as detail

        from freshness

        join gaps
            on freshness.symbol = gaps.symbol
            and gaps.kind = 'not delivered'

        where freshness.status = 'stale'

        union all

        select
            symbol,
            'vendor gap' as finding,
            first_session,
            last_session,
            sessions || ' sessions without a bar' as detail

        from gaps

        where kind = 'vendor gap'
            and sessions > (select count(*) from empty_sessions where date between first_session and last_session)
            and not exists (
                select 1

                from answered

                where answered.symbol = gaps.symbol
                    and answered.first_session <= gaps.first_session
                    and answered.last_session >= gaps.last_session
                    and answered.started_at::date > gaps.last_session
            )

        union all

        select
            symbol,
            'not finalised' as finding,
            date as first_session,
            date as last_session,
            'the bar of ' || date || ' is still provisional' as detail

        from bars_raw

        cross join clock

        -- the overnight refresh of 04:00 UTC has had an hour
        where not is_final
            and date::timestamp + interval '1 day 5 hours' <= timezone('UTC', moment)

        union all

        select
            symbol,
            'quarantined' as finding,
            date as first_session,
            date as last_session,
            reason as detail

        from turned_away

        where date in (select date from sessions)
            and not exists (
                select 1

                from bars_raw

                where bars_raw.symbol = turned_away.symbol
                    and bars_raw.date = turned_away.date
            )

        union all

        select
            symbol,
            suspicion as finding,
            date as first_session,
            date as last_session,
            detail

        from open_suspects

        union all

        select
            '*' as symbol,
            'no bar of any symbol' as finding,
            date as first_session,
            date as last_session,
            'a session of the calendar: was the exchange closed?' as detail

        from empty_sessions

        union all

        select
            '*' as symbol,
            'bars without a session' as finding,
            date as first_session,
            date as last_session,
            count(distinct symbol) || ' symbols have bars on a day that is no session: was the exchange open?' as detail

        from turned_away

        where isodow(date) < 6
            and date not in (select date from sessions)

        group by date

        having count(distinct symbol) > 1

        union all

        select
            symbol,
            anomaly as finding,
            date as first_session,
            date as last_session,
            printf('%.4g: %s', value, detail) as detail

        from off_the_mark

        where not exists (
                select 1

                from bar_overrides

                where bar_overrides.symbol = off_the_mark.symbol
                    and bar_overrides.date = off_the_mark.date
            )

    )

    select * from findings;

comment on view findings is 'Stale or broken bars that can be fetched again, symbol by symbol.';
