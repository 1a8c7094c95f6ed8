-- trima: triangular moving average of the close: the middle of the window weighs most.
-- n: bars, n >= 2 | grain: symbol, timestamp | unit: USD per share | null until n bars are there
-- source: a simple average over n // 2 + 1 bars of one over n - n // 2; equal to TA-Lib's TRIMA
-- look-back: n - 1
create or replace macro trima(n := 30, source := 'bars') as table (

    with

    averaged as (

        select
            symbol,
            timestamp,
            row_number() over bars_in_order as bar_number,
            null_as_nan(close) as close,
            avg(null_as_nan(close)) over first_bars as mean

        from query_table(source)

        where require_whole('trima: n', n, 2)

        window
            bars_in_order as (partition by symbol order by timestamp),
            first_bars as (partition by symbol order by timestamp rows between (n - 1) // 2 preceding and current row)

    ),

    numbered as (

        select
            symbol,
            timestamp,
            bar_number,
            close,
            case when bar_number >= (n + 1) // 2 then mean end as mean

        from averaged

    ),

    windowed as (

        select
            symbol,
            timestamp,
            bar_number,
            snapped(avg(mean) over second_bars, close) as trima

        from numbered

        window second_bars as (partition by symbol order by timestamp rows between n // 2 preceding and current row)

    )

    select
        symbol,
        timestamp,
        case when bar_number >= n then nan_as_null(trima) end as trima

    from windowed

);

comment on macro table trima is 'Triangular moving average of the close, USD per share.';
