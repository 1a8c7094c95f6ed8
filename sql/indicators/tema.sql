-- tema: triple exponential moving average of the close.
-- n: bars, n >= 2 | grain: symbol, timestamp | unit: USD per share | null until warm
-- source: Patrick Mulloy (1994), 3 * ema - 3 * ema of ema + ema of ema of ema; equal to TA-Lib's TEMA
-- look-back: 3 * ema_look_back(n)
create or replace macro tema(n := 30, source := 'bars') as table (

    select
        symbol,
        timestamp,
        nan_as_null(snapped(3 * ema_1 - 3 * ema_2 + ema_3, close)) as tema

    from exponential_average_3(n, source := source)

    where require_whole('tema: n', n, 2)

);

comment on macro table tema is 'Triple exponential moving average of the close, USD per share.';
