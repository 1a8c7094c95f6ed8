-- trix: bar-to-bar change of the triple exponential average of the close, in percent.
-- n: bars, n >= 1 | grain: symbol, timestamp | unit: percent | null until warm
-- source: Jack Hutson (1983); equal to TA-Lib's TRIX
-- look-back: 3 * ema_look_back(n) + 1
create or replace macro trix(n := 30, source := 'bars') as table (

    with

    lagged as (

        select
            symbol,
            timestamp,
            ema_3,
            lag(ema_3) over (partition by symbol order by timestamp) as previous_ema_3

        from exponential_average_3(n, source := source)

        where require_whole('trix: n', n, 1)

    )

    select
        symbol,
        timestamp,
        nan_as_null(100 * difference(ema_3, previous_ema_3) / previous_ema_3) as trix

    from lagged

);

comment on macro table trix is 'Change of the triple exponential average, percent.';
