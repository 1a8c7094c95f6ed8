-- trix: bar-to-bar change of the triple exponential average of the close, in percent.
-- n: bars, n >= 1 | grain: symbol, timestamp | unit: percent | null until warm
-- source: Jack Hutson (1983); equal to TA-Lib's TRIX
-- look-back: 3 * ema_look_back(n) + 1
create or replace macro trix(n := 30, source := 'bars') as table (

    with

    numbered as (

        select
            symbol,
            timestamp,
            null_as_nan(close) as close,
            row_number() over bars_in_order as bar_number

        from query_table(source)

        where require_whole('trix: n', n, 1)

        window bars_in_order as (partition by symbol order by timestamp)

    ),

    weighted as (

        select
            *,
            ema_weights(bar_number, n) as weights_1,
            ema_weights(bar_number - (n - 1), n) as weights_2,
            ema_weights(bar_number - 2 * (n - 1), n) as weights_3

        from numbered

    ),

    average_1 as (

        select
            *,
            case when bar_number >= n then ema_of(close, bar_number, weights_1, n) end as ema_1

        from weighted

    ),

    average_2 as (

        select
            *,
            case when bar_number > 2 * (n - 1) then ema_of(ema_1, bar_number - (n - 1), weights_2, n) end as ema_2

        from average_1

    ),

    average_3 as (

        select
            *,
            case when bar_number > 3 * (n - 1) then ema_of(ema_2, bar_number - 2 * (n - 1), weights_3, n) end as ema_3

        from average_2

    ),

    lagged as (

        select
            symbol,
            timestamp,
            ema_3,
            lag(ema_3) over bars_in_order as previous_ema_3

        from average_3

        window bars_in_order as (partition by symbol order by timestamp)

    )

    select
        symbol,
        timestamp,
        nan_as_null(100 * (ema_3 / previous_ema_3 - 1)) as trix

    from lagged

);

comment on macro table trix is 'Change of the triple exponential average, percent.';
