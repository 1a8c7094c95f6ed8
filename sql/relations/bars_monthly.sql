-- bars_monthly: one bar per symbol and calendar month, made from bars; a source for every indicator.
-- grain: symbol, month | units: USD per share, shares | date, timestamp: of the last session in it
-- is_complete: false while the month may still run: its last session, of the relation sessions, is not there, and no later
-- bar of the symbol is | with the variable since set, the first month may lack its beginning
create or replace view bars_monthly as

    with

    grouped as (

        select
            symbol,
            date_trunc('month', date) as month,
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

        group by symbol, date_trunc('month', date)

    ),

    last_sessions as (

        select
            date_trunc('month', date) as month,
            max(date) as last_session

        from sessions

        group by date_trunc('month', date)

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

    left join last_sessions using (month);

comment on view bars_monthly is 'Bars of calendar months, from bars; the running month is marked.';
