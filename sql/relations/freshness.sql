-- freshness: sessions that each symbol is behind the schedules by now.
-- grain: symbol | sessions_behind: sessions after last_date up to expected_session, 0 where nothing is missing
-- status: fresh, stale, halted (a person said so, and no bar has come since), or ended (renamed, merged, removed: no bar
--   is expected any more)
-- A session is expected 5 minutes after the post-close refresh can have stored it: that runs at 16:05 New York, on early
-- closes too, and waits until the feed shows the close.
-- variables: now (default: the clock), sip_delay_minutes (default: 15), as_of (the session expected is not after it)
-- allows look-ahead: it knows the last bar of each symbol
create or replace view freshness as

    with

    clock as (

        select
            coalesce(getvariable('now')::timestamptz, now()) as moment,
            to_minutes(coalesce(getvariable('sip_delay_minutes')::integer, 15)) as delay

    ),

    expected as (

        select
            case
                when max(close) < any_value(moment)
                    then error('sessions end before today: alchemiser-duck refresh --mode overnight writes newer ones')
                else max(date) filter (
                    greatest(close + delay, timezone('America/New_York', date + time '16:05'))
                    + interval 5 minute <= moment
                    and (getvariable('as_of') is null or date <= getvariable('as_of')::date)
                )
            end as expected_session

        from sessions

        cross join clock

    ),

    stored as (

        select
            symbol,
            last_date,
            expected_session,
            coalesce(ended_on <= expected_session and last_date <= ended_on, false) as is_ended,
            coalesce(halted_on <= expected_session and last_date <= halted_on, false) as is_halted

        from symbols

        cross join expected

    ),

    -- few different days: one count serves all symbols that stop there
    behind as (

        select
            days.last_date,
            count(sessions.date) as sessions_behind

        from (select distinct last_date, expected_session from stored) as days

        left join sessions
            on sessions.date > days.last_date
            and sessions.date <= days.expected_session

        group by days.last_date

    )

    select
        stored.symbol,
        stored.last_date,
        stored.expected_session,
        case when is_ended then 0 else behind.sessions_behind end as sessions_behind,
        case
            when is_ended then 'ended'
            when behind.sessions_behind = 0 then 'fresh'
            when is_halted then 'halted'
            else 'stale'
        end as status

    from stored

    join behind using (last_date);

comment on view freshness is 'Per symbol: last bar, session expected by now, sessions behind; fresh, stale, halted, ended.';
