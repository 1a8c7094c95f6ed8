-- rocr: ratio of the close to that of n bars before.
-- n: bars, n >= 1 | grain: symbol, timestamp | unit: ratio | null on the first n bars
-- source: equal to TA-Lib's ROCR
-- look-back: n
create or replace macro rocr(n := 10, source := 'bars') as table (

    with

    lagged as (

        select
            symbol,
            timestamp,
            close,
            lag(close, n) over bars_in_order as previous_close

        from query_table(source)

        where require_whole('rocr: n', n, 1)

        window bars_in_order as (partition by symbol order by timestamp)

    )

    select
        symbol,
        timestamp,
        close / previous_close as rocr

    from lagged

);

comment on macro table rocr is 'Ratio of the close to that of n bars before.';
