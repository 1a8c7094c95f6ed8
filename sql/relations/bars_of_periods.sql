-- bars_of_periods: one bar per symbol and calendar period, made from bars.
-- grain: symbol, period | period: 'week' or 'month' | units, is_complete: as in bars_weekly
create or replace macro bars_of_periods(period := 'week') as table (

    with

    grouped as (

        select
            symbol,
            date_trunc(period, date) as period_begins,
            max(date) as date,
            max(timestamp) as timestamp,
            arg_min(open, timestamp) as open,
            max(high) as high,
            min(low) as low,
            arg_max(close, timestamp) as close,
            sum(vwap * volume) / nullif(sum(volume) filter (vwap is not null), 0) as vwap,
            sum(volume) as volume,
            cast(sum(trade_count) as bigint) as trade_count,
            bool_and(is_final) as is_final

        from bars

        group by symbol, date_trunc(period, date)

    ),

    last_sessions as (

        select
            date_trunc(period, date) as period_begins,
            max(date) as last_session

        from sessions

        group by date_trunc(period, date)

    )

    select
        grouped.symbol,
        grouped.date,
        grouped.timestamp,
        grouped.open,
        grouped.high,
        grouped.low,
        grouped.close,
        grouped.vwap,
        grouped.volume,
        grouped.trade_count,
        grouped.is_final,
        coalesce(grouped.date >= last_sessions.last_session, false)
            or lead(grouped.date) over (partition by grouped.symbol order by grouped.timestamp) is not null as is_complete

    from grouped

    left join last_sessions using (period_begins)

);

comment on macro table bars_of_periods is 'Bars of calendar periods, from bars; the running period is marked.';
