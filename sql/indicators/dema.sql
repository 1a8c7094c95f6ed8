-- dema: double exponential moving average of the close.
-- n: bars, n >= 2 | grain: symbol, timestamp | unit: USD per share | null until warm
-- source: Patrick Mulloy (1994), 2 * ema - ema of ema; equal to TA-Lib's DEMA
-- look-back: 2 * ema_look_back(n)
create or replace macro dema(n := 30, source := 'bars') as table (

    select
        symbol,
        timestamp,
        nan_as_null(snapped(2 * ema_1 - ema_2, close)) as dema

    from exponential_average_2(n, source := source)

    where require_whole('dema: n', n, 2)

);

comment on macro table dema is 'Double exponential moving average of the close, USD per share.';
