-- bars_monthly: one bar per symbol and calendar month, made from bars; a source for every indicator.
-- grain: symbol, month | units: USD per share, shares | date, timestamp: of the last session in it
-- is_complete: false while the month may still run: no later bar of the symbol is there, and its last session is not on
-- the month's last weekday | with the variable since set, the first month may lack its beginning
create or replace view bars_monthly as

    with

    grouped as (

        select
            symbol,
            max(date) as date,
            max(timestamp) as timestamp,
            arg_min(open, timestamp) as open,
            max(high) as high,
            min(low) as low,
            arg_max(close, timestamp) as close,
            sum(vwap * volume) / nullif(sum(volume), 0) as vwap,
            cast(sum(volume) as bigint) as volume,
            cast(sum(trade_count) as bigint) as trade_count,
            bool_and(is_final) as is_final

        from bars

        group by symbol, date_trunc('month', date)

    )

    select
        symbol,
        date,
        timestamp,
        open,
        high,
        low,
        close,
        vwap,
        volume,
        trade_count,
        is_final,
        -- the next weekday lies in another month
        month(date + to_days(cast(case when isodow(date) >= 5 then 8 - isodow(date) else 1 end as integer))) <> month(date)
            or lead(date) over (partition by symbol order by timestamp) is not null as is_complete

    from grouped;

comment on view bars_monthly is 'Bars of calendar months, from bars; the running month is marked.';
