-- rocr100: ratio of the close to that of n bars before, times 100.
-- n: bars, n >= 1 | grain: symbol, timestamp | unit: percent | null on the first n bars
-- source: equal to TA-Lib's ROCR100
-- look-back: n
create or replace macro rocr100(n := 10, source := 'bars') as table (

    select
        symbol,
        timestamp,
        100 * close / previous_close as rocr100

    from earlier_close(n, source := source)

    where require_whole('rocr100: n', n, 1)

);

comment on macro table rocr100 is 'Ratio of the close to that of n bars before, percent.';
