-- typprice: typical price: mean of high, low and close of the bar.
-- grain: symbol, timestamp | unit: USD per share | never null
-- source: equal to TA-Lib's TYPPRICE
-- look-back: 0
create or replace macro typprice(source := 'bars') as table (

    select
        symbol,
        timestamp,
        (high + low + close) / 3 as typprice

    from query_table(source)

);

comment on macro table typprice is 'Typical price, USD per share.';
