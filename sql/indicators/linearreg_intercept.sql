-- linearreg_intercept: beginning of the straight line that fits the last n closes best.
-- n: bars, n >= 2 | grain: symbol, timestamp | unit: USD per share | null until n bars are there
-- source: ordinary least squares; equal to TA-Lib's LINEARREG_INTERCEPT
-- look-back: n - 1
create or replace macro linearreg_intercept(n := 14, source := 'bars') as table (

    select
        symbol,
        timestamp,
        case when bars_seen = n then snapped(mean - slope * (n - 1) / 2, close) end as linearreg_intercept

    from regression_line(n, source := source)

    where require_whole('linearreg_intercept: n', n, 2)

);

comment on macro table linearreg_intercept is 'Beginning of the regression line of the close, USD per share.';
