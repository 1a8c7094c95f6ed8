-- corporate_actions: splits, dividends, renames, mergers …, one row each, with their factors.
-- grain: id | units: cash_amount USD per share (stock_dividend: new shares per share), rates in shares
-- factors multiply prices before ex_date; null: no effect yet, or not known | vendor_row: the vendor's row as sent
-- cusip: of the shares before it | applies_to: the symbol whose stored prices its factors multiply
-- withdrawn_at: when a complete answer of the vendor's no longer held it
-- override: null, 'replace' or 'drop' | lens: variable as_of hides later actions
create or replace view corporate_actions as

    select
        id,
        type,
        symbol,
        applies_to,
        ex_date,
        process_date,
        cash_amount,
        old_rate,
        new_rate,
        new_symbol,
        cusip,
        new_cusip,
        special,
        previous_close,
        split_factor,
        price_factor,
        override,
        override_values,
        override_reason,
        overridden_at,
        first_seen,
        withdrawn_at,
        vendor_row

    from read_parquet(
        coalesce(getvariable('corporate_actions'), [getvariable('market_data') || '/corporate_actions/*.parquet'])
    )

    where getvariable('as_of') is null
        or ex_date <= getvariable('as_of')::date;

comment on view corporate_actions is 'Splits, dividends, renames, mergers, with their price and split factors.';
