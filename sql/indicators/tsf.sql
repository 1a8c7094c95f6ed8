-- tsf: time series forecast: the straight line that fits the last n closes best, one bar further.
-- n: bars, n >= 2 | grain: symbol, timestamp | unit: USD per share | null until n bars are there
-- source: ordinary least squares; equal to TA-Lib's TSF
-- look-back: n - 1
create or replace macro tsf(n := 14, source := 'bars') as table (

    with

    numbered as (

        select
            symbol,
            timestamp,
            close,
            row_number() over bars_in_order as bar_number

        from query_table(source)

        where require_whole('tsf: n', n, 2)

        window bars_in_order as (partition by symbol order by timestamp)

    ),

    windowed as (

        select
            symbol,
            timestamp,
            count(close) over trailing_bars as bars_seen,
            avg(close) over trailing_bars as mean,
            regr_slope(close, bar_number) over trailing_bars as slope

        from numbered

        window trailing_bars as (
            partition by symbol
            order by timestamp
            rows between n - 1 preceding and current row
        )

    )

    select
        symbol,
        timestamp,
        case when bars_seen = n then mean + slope * (n + 1) / 2 end as tsf

    from windowed

);

comment on macro table tsf is 'Regression line of the close one bar ahead, USD per share.';
