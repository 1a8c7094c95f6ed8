-- action_factors: the factor by which each action multiplies the prices before its ex-date, from the raw bars.
-- grain: id | actions: a relation of the shape of corporate_actions
-- split: old_rate / new_rate; stock dividend: 1 / (1 + rate); cash dividend: 1 - amount / previous close, the close in
-- terms of the shares after a split of the same day; spin-off: as a dividend of the new shares, at their first close.
-- Dividends of one day add up: 3 and 2 after a close of 50 make 0.9. Null before the ex-date, where a factor cannot be
-- known, and for the second of two actions that say the same under different ids.
create or replace macro action_factors(actions := 'corporate_actions') as table (

    with

    due as (

        select
            id,
            type,
            applies_to as symbol,
            ex_date,
            case
                when type in ('forward_split', 'reverse_split', 'unit_split') then old_rate / new_rate
                when type = 'stock_dividend' then 1 / (1 + cash_amount)
            end as split_factor,
            case when type = 'cash_dividend' then cash_amount end as cash_amount,
            case when type = 'spin_off' then new_rate / old_rate end as new_shares,
            case when type = 'spin_off' then new_symbol end as spun_off,
            row_number() over (
                partition by applies_to, type, ex_date, cash_amount, old_rate, new_rate, new_symbol, special
                order by id
            ) as duplicate_rank

        from query_table(actions)

        where override is distinct from 'drop'
            and type in (
                'forward_split', 'reverse_split', 'unit_split', 'stock_dividend', 'cash_dividend', 'spin_off'
            )

    ),

    newest as (

        select max(date) as date

        from bars_raw

    ),

    -- asof finds the bar before each ex-date without pairing every action with every bar
    with_previous_close as (

        select
            due.*,
            bars_raw.close as previous_close

        from (from due where duplicate_rank = 1) as due

        asof left join bars_raw
            on due.symbol = bars_raw.symbol
            and due.ex_date > bars_raw.date

    ),

    priced as (

        select
            with_previous_close.id,
            with_previous_close.symbol,
            with_previous_close.ex_date,
            with_previous_close.split_factor,
            with_previous_close.previous_close,
            with_previous_close.ex_date <= newest.date as is_effective,
            coalesce(with_previous_close.cash_amount, with_previous_close.new_shares * new_bars.close) as amount

        from with_previous_close

        cross join newest

        left join bars_raw as new_bars
            on with_previous_close.spun_off = new_bars.symbol
            and with_previous_close.ex_date = new_bars.date

    ),

    summed as (

        select
            id,
            split_factor,
            previous_close,
            is_effective,
            amount,
            previous_close * exp(coalesce(sum(ln(split_factor)) over same_day, 0)) as close_before,
            coalesce(sum(amount) over paid_so_far, 0) as paid_with_this,
            coalesce(sum(amount) over paid_so_far, 0) - coalesce(amount, 0) as paid_before_this

        from priced

        window
            same_day as (partition by symbol, ex_date),
            paid_so_far as (
                partition by symbol, ex_date
                order by id
                rows between unbounded preceding and current row
            )

    )

    select
        id,
        previous_close,
        case when is_effective then coalesce(split_factor, case when amount > 0 then 1 end) end as split_factor,
        case
            when not is_effective then null
            when split_factor is not null then split_factor
            when amount is null then null
            when paid_with_this < close_before then (close_before - paid_with_this) / (close_before - paid_before_this)
        end as price_factor

    from summed

);

comment on macro table action_factors is 'Price and split factor of each corporate action, from raw bars.';
