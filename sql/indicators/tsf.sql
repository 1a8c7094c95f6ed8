-- tsf: time series forecast: the straight line that fits the last n closes best, one bar further.
-- n: bars, n >= 2 | grain: symbol, timestamp | unit: USD per share | null until n bars are there
-- source: ordinary least squares; equal to TA-Lib's TSF
-- look-back: n - 1
create or replace macro tsf(n := 14, source := 'bars') as table (

    select
        symbol,
        timestamp,
        case when bars_seen = n then snapped(mean + slope * (n + 1) / 2, close) end as tsf

    from regression_line(n, source := source)

    where require_whole('tsf: n', n, 2)

);

comment on macro table tsf is 'Regression line of the close one bar ahead, USD per share.';
