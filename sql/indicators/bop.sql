-- bop: balance of power: how far the bar went from open to close, as a part of its range.
-- grain: symbol, timestamp | unit: -1 to 1 | never null
-- source: equal to TA-Lib's BOP
-- look-back: 0
create or replace macro bop(source := 'bars') as table (

    select
        symbol,
        timestamp,
        case
            when difference(high, low) > 0 then difference(close, open) / (high - low)
            else 0 * (high - low)
        end as bop

    from query_table(source)

);

comment on macro table bop is 'Balance of power, -1 to 1.';
