-- linearreg_slope: slope of the straight line that fits the last n closes best.
-- n: bars, n >= 2 | grain: symbol, timestamp | unit: USD per share and bar | null until n bars are there
-- source: ordinary least squares; equal to TA-Lib's LINEARREG_SLOPE
-- look-back: n - 1
create or replace macro linearreg_slope(n := 14, source := 'bars') as table (

    select
        symbol,
        timestamp,
        case when bars_seen = n then slope end as linearreg_slope

    from regression_line(n, source := source)

    where require_whole('linearreg_slope: n', n, 2)

);

comment on macro table linearreg_slope is 'Slope of the regression line of the close, USD per share and bar.';
