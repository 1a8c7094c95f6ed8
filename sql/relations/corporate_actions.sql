-- corporate_actions: splits, dividends, renames, mergers …, one row each, with their factors.
-- grain: id | units: cash_amount USD per share (stock_dividend: new shares per share), rates in shares
-- factors multiply prices before ex_date; null: no effect yet, or not known | vendor_row: the vendor's row as sent
-- cusip: of the shares before it | applies_to: the symbol whose stored prices its factors multiply
-- withdrawn_at: when a complete answer of the vendor's no longer held it
-- status: what became of it, as in action_factors | is_announced: the vendor has not completed it
-- new_close: the first close of a spun-off share that is not stored | accepted_reason: why no suspect is one
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
        status,
        rule,
        is_announced,
        new_close,
        override,
        override_values,
        override_reason,
        overridden_at,
        accepted_reason,
        accepted_at,
        first_seen,
        withdrawn_at,
        vendor_row

    from read_parquet(
        coalesce(getvariable('corporate_actions'), [getvariable('market_data') || '/corporate_actions/*.parquet'])
    )

    where getvariable('as_of') is null
        or ex_date <= getvariable('as_of')::date;

comment on view corporate_actions is 'Splits, dividends, renames, mergers, with their price and split factors.';
