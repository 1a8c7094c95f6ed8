-- mom: momentum: difference between the close and that of n bars before.
-- n: bars, n >= 1 | grain: symbol, timestamp | unit: USD per share | null on the first n bars
-- source: equal to TA-Lib's MOM
-- look-back: n
create or replace macro mom(n := 10, source := 'bars') as table (

    select
        symbol,
        timestamp,
        close - lag(close, n) over bars_in_order as mom

    from query_table(source)

    where require_whole('mom: n', n, 1)

    window bars_in_order as (partition by symbol order by timestamp)

);

comment on macro table mom is 'Difference to the close of n bars before, USD per share.';
