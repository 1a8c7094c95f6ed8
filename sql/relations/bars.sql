-- bars: the daily bars that indicators read.
-- grain: symbol, timestamp | units: USD per share, shares
-- as traded: corporate actions are not applied yet, so a split shows as a jump
create or replace view bars as

    select
        symbol,
        date,
        timestamp,
        open,
        high,
        low,
        close,
        vwap,
        volume,
        trade_count,
        is_final

    from bars_raw;

comment on view bars is 'Daily bars that indicators read (as traded until corporate actions are applied).';
