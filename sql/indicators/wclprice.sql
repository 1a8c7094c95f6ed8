-- wclprice: mean of high, low and close of the bar, the close counted twice.
-- grain: symbol, timestamp | unit: USD per share | never null
-- source: equal to TA-Lib's WCLPRICE
-- look-back: 0
create or replace macro wclprice(source := 'bars') as table (

    select
        symbol,
        timestamp,
        (high + low + 2 * close) / 4 as wclprice

    from query_table(source)

);

comment on macro table wclprice is 'Weighted close, USD per share.';
