-- linearreg_angle: angle of the straight line that fits the last n closes best.
-- n: bars, n >= 2 | grain: symbol, timestamp | unit: degrees | null until n bars are there
-- source: ordinary least squares; equal to TA-Lib's LINEARREG_ANGLE
-- look-back: n - 1
create or replace macro linearreg_angle(n := 14, source := 'bars') as table (

    select
        symbol,
        timestamp,
        case when bars_seen = n then degrees(atan(slope)) end as linearreg_angle

    from regression_line(n, source := source)

    where require_whole('linearreg_angle: n', n, 2)

);

comment on macro table linearreg_angle is 'Angle of the regression line of the close, degrees.';
