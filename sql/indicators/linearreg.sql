-- linearreg: end of the straight line that fits the last n closes best.
-- n: bars, n >= 2 | grain: symbol, timestamp | unit: USD per share | null until n bars are there
-- source: ordinary least squares; equal to TA-Lib's LINEARREG
-- look-back: n - 1
create or replace macro linearreg(n := 14, source := 'bars') as table (

    select
        symbol,
        timestamp,
        case when bars_seen = n then snapped(mean + slope * (n - 1) / 2, close) end as linearreg

    from regression_line(n, source := source)

    where require_whole('linearreg: n', n, 2)

);

comment on macro table linearreg is 'End of the regression line of the close, USD per share.';
