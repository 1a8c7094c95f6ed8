-- rocr: ratio of the close to that of n bars before.
-- n: bars, n >= 1 | grain: symbol, timestamp | unit: ratio | null on the first n bars
-- source: equal to TA-Lib's ROCR
-- look-back: n
create or replace macro rocr(n := 10, source := 'bars') as table (

    select
        symbol,
        timestamp,
        close / previous_close as rocr

    from earlier_close(n, source := source)

    where require_whole('rocr: n', n, 1)

);

comment on macro table rocr is 'Ratio of the close to that of n bars before.';
