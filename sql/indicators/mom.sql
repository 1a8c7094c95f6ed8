-- mom: momentum: difference between the close and that of n bars before.
-- n: bars, n >= 1 | grain: symbol, timestamp | unit: USD per share | null on the first n bars
-- source: equal to TA-Lib's MOM
-- look-back: n
create or replace macro mom(n := 10, source := 'bars') as table (

    select
        symbol,
        timestamp,
        difference(close, previous_close) as mom

    from earlier_close(n, source := source)

    where require_whole('mom: n', n, 1)

);

comment on macro table mom is 'Difference to the close of n bars before, USD per share.';
