-- ema: exponential moving average of the close, seeded with the mean of the first n bars.
-- n: bars, n >= 2 | grain: symbol, timestamp | unit: USD per share | null until n bars are there
-- source: smoothing factor 2 / (n + 1); equal to TA-Lib's EMA
-- look-back: ema_look_back(n)
create or replace macro ema(n := 20, source := 'bars') as table (

    select
        symbol,
        timestamp,
        nan_as_null(ema_1) as ema

    from exponential_average_1(n, source := source)

    where require_whole('ema: n', n, 2)

);

comment on macro table ema is 'Exponential moving average of the close, USD per share.';
