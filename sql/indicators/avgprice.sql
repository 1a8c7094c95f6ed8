-- avgprice: mean of open, high, low and close of the bar.
-- grain: symbol, timestamp | unit: USD per share | never null
-- source: equal to TA-Lib's AVGPRICE
-- look-back: 0
create or replace macro avgprice(source := 'bars') as table (

    select
        symbol,
        timestamp,
        (open + high + low + close) / 4 as avgprice

    from query_table(source)

);

comment on macro table avgprice is 'Mean of open, high, low and close, USD per share.';
