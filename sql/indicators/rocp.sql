-- rocp: rate of change of the close over n bars, as a fraction.
-- n: bars, n >= 1 | grain: symbol, timestamp | unit: fraction | null on the first n bars
-- source: equal to TA-Lib's ROCP
-- look-back: n
create or replace macro rocp(n := 10, source := 'bars') as table (

    with

    lagged as (

        select
            symbol,
            timestamp,
            close,
            lag(close, n) over bars_in_order as previous_close

        from query_table(source)

        where require_whole('rocp: n', n, 1)

        window bars_in_order as (partition by symbol order by timestamp)

    )

    select
        symbol,
        timestamp,
        (close - previous_close) / previous_close as rocp

    from lagged

);

comment on macro table rocp is 'Rate of change of the close over n bars, fraction.';
