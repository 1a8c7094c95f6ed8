-- wma: weighted moving average of the close: the newest bar weighs n, the oldest 1.
-- n: bars, n >= 2 | grain: symbol, timestamp | unit: USD per share | null until n bars are there
-- source: equal to TA-Lib's WMA
-- look-back: n - 1
create or replace macro wma(n := 30, source := 'bars') as table (

    with

    numbered as (

        select
            symbol,
            timestamp,
            null_as_nan(close) as close,
            row_number() over bars_in_order as bar_number

        from query_table(source)

        where require_whole('wma: n', n, 2)

        window bars_in_order as (partition by symbol order by timestamp)

    ),

    windowed as (

        select
            symbol,
            timestamp,
            bar_number,
            close,
            sum(close * bar_number) over trailing_bars as numbered_sum,
            sum(close) over trailing_bars as total

        from numbered

        window trailing_bars as (partition by symbol order by timestamp rows between n - 1 preceding and current row)

    )

    select
        symbol,
        timestamp,
        case
            when bar_number >= n
                then nan_as_null(snapped(2 * (numbered_sum - (bar_number - n) * total) / (n * (n + 1)), close))
        end as wma

    from windowed

);

comment on macro table wma is 'Weighted moving average of the close, USD per share.';
