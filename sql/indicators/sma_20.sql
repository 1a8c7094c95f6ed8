-- sma_20: simple moving average of the adjusted close over 20 bars.
-- grain: symbol, timestamp | unit: USD per share | null until 20 bars are there
create or replace view sma_20 as

    select
        symbol,
        timestamp,
        sma

    from sma(n := 20);

comment on view sma_20 is 'Simple moving average of the close over 20 bars, USD per share.';
