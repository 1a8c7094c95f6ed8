-- ema: exponential moving average of the close, seeded with the mean of the first n bars.
-- n: bars, n >= 2 | grain: symbol, timestamp | unit: USD per share | null until n bars are there
-- source: smoothing factor 2 / (n + 1); equal to TA-Lib's EMA
-- look-back: ema_look_back(n)
create or replace macro ema(n := 20, source := 'bars') as table (

    with

    numbered as (

        select
            symbol,
            timestamp,
            null_as_nan(close) as close,
            row_number() over bars_in_order as bar_number

        from query_table(source)

        where require_whole('ema: n', n, 2)

        window bars_in_order as (partition by symbol order by timestamp)

    ),

    weighted as (

        select
            symbol,
            timestamp,
            close,
            bar_number,
            ema_weights(bar_number, n) as weights

        from numbered

    ),

    averaged as (

        select
            symbol,
            timestamp,
            bar_number,
            ema_of(close, bar_number, weights, n) as ema

        from weighted

    )

    select
        symbol,
        timestamp,
        case when bar_number >= n then nan_as_null(ema) end as ema

    from averaged

);

comment on macro table ema is 'Exponential moving average of the close, USD per share.';
