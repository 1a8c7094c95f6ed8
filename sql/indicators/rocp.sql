-- rocp: rate of change of the close over n bars, as a fraction.
-- n: bars, n >= 1 | grain: symbol, timestamp | unit: fraction | null on the first n bars
-- source: equal to TA-Lib's ROCP
-- look-back: n
create or replace macro rocp(n := 10, source := 'bars') as table (

    select
        symbol,
        timestamp,
        difference(close, previous_close) / previous_close as rocp

    from earlier_close(n, source := source)

    where require_whole('rocp: n', n, 1)

);

comment on macro table rocp is 'Rate of change of the close over n bars, fraction.';
