-- bars: daily bars adjusted for splits, stock and cash dividends and spin-offs; indicators read them.
-- grain: symbol, timestamp | units: USD per share, shares of today, with fractions | lens: since and as_of, as in bars_raw
create or replace view bars as

    select
        bars_raw.symbol,
        bars_raw.date,
        bars_raw.timestamp,
        bars_raw.open * coalesce(adjustments.price_factor, 1) as open,
        bars_raw.high * coalesce(adjustments.price_factor, 1) as high,
        bars_raw.low * coalesce(adjustments.price_factor, 1) as low,
        bars_raw.close * coalesce(adjustments.price_factor, 1) as close,
        bars_raw.vwap * coalesce(adjustments.price_factor, 1) as vwap,
        bars_raw.volume / coalesce(adjustments.split_factor, 1) as volume,
        bars_raw.trade_count,
        bars_raw.is_final

    from bars_raw

    left join adjustments_by_year as adjustments
        on bars_raw.symbol = adjustments.symbol
        and greatest(year(bars_raw.date), 2000) = adjustments.year
        and bars_raw.date >= adjustments.valid_from
        and bars_raw.date < adjustments.valid_to;

comment on view bars is 'Daily bars, adjusted for splits, dividends and spin-offs; indicators read them.';
