-- willr: Williams' %R: how far the close is below the highest high, as a part of the range of the last n bars.
-- n: bars, n >= 2 | grain: symbol, timestamp | unit: -100 to 0 | null until n bars are there
-- source: Larry Williams; equal to TA-Lib's WILLR, 0 where prices did not move
-- look-back: n - 1
create or replace macro willr(n := 14, source := 'bars') as table (

    select
        symbol,
        timestamp,
        case
            when bar_number < n then null
            else nan_as_null(-100 * difference(highest, close) * coalesce(1 / nullif(difference(highest, lowest), 0), 0))
        end as willr

    from price_range(n, source := source)

    where require_whole('willr: n', n, 2)

);

comment on macro table willr is 'Williams'' %R, -100 to 0.';
