-- medprice: halfway between high and low of the bar.
-- grain: symbol, timestamp | unit: USD per share | never null
-- source: equal to TA-Lib's MEDPRICE
-- look-back: 0
create or replace macro medprice(source := 'bars') as table (

    select
        symbol,
        timestamp,
        (high + low) / 2 as medprice

    from query_table(source)

);

comment on macro table medprice is 'Halfway between high and low, USD per share.';
