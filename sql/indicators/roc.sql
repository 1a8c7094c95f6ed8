-- roc: rate of change of the close over n bars, in percent.
-- n: bars, n >= 1 | grain: symbol, timestamp | unit: percent | null on the first n bars
-- source: equal to TA-Lib's ROC
-- look-back: n
create or replace macro roc(n := 10, source := 'bars') as table (

    select
        symbol,
        timestamp,
        100 * difference(close, previous_close) / previous_close as roc

    from earlier_close(n, source := source)

    where require_whole('roc: n', n, 1)

);

comment on macro table roc is 'Rate of change of the close over n bars, percent.';
