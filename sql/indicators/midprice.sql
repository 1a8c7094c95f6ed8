-- midprice: halfway between the highest high and the lowest low of the last n bars.
-- n: bars, n >= 2 | grain: symbol, timestamp | unit: USD per share | null until n bars are there
-- source: equal to TA-Lib's MIDPRICE
-- look-back: n - 1
create or replace macro midprice(n := 14, source := 'bars') as table (

    select
        symbol,
        timestamp,
        case when bar_number >= n then nan_as_null((highest + lowest) / 2) end as midprice

    from price_range(n, source := source)

    where require_whole('midprice: n', n, 2)

);

comment on macro table midprice is 'Midpoint of the highest high and lowest low, USD per share.';
