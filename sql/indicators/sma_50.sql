-- sma_50: simple moving average of the adjusted close over 50 bars.
-- grain: symbol, timestamp | unit: USD per share | null until 50 bars are there
create or replace view sma_50 as

    select
        symbol,
        timestamp,
        sma

    from sma(n := 50);

comment on view sma_50 is 'Simple moving average of the close over 50 bars, USD per share.';
