-- action_factors: what each action multiplies the prices before its ex-date by, from the raw bars that are stored.
-- grain: id | actions: a relation of the shape of corporate_actions
-- split: old_rate / new_rate; stock dividend: 1 / (1 + rate); cash dividend: 1 - amount / previous close, the close in
-- terms of the shares after a split of the same day; spin-off: as a dividend of the new shares, at their first close.
-- Dividends of one day add up. Null before the ex-date has come, where a factor cannot be known, and for the second of
-- two actions that say the same under different ids.
create or replace macro action_factors(actions := 'corporate_actions') as table (

    with

    due as (

        select
            id,
            type,
            symbol,
            ex_date,
            case
                when type in ('forward_split', 'reverse_split', 'unit_split') then old_rate / new_rate
                when type = 'stock_dividend' then 1 / (1 + cash_amount)
            end as split_factor,
            case when type = 'cash_dividend' then cash_amount end as cash_amount,
            case when type = 'spin_off' then new_rate / old_rate end as new_shares,
            case when type = 'spin_off' then new_symbol end as spun_off,
            row_number() over (
                partition by symbol, type, ex_date, cash_amount, old_rate, new_rate, new_symbol, special
                order by id
            ) as copy

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

    -- asof: the one bar before each ex-date, without pairing every action with every bar
    preceded as (

        select
            due.*,
            bars_raw.close as previous_close

        from (from due where copy = 1) as due

        asof left join bars_raw
            on due.symbol = bars_raw.symbol
            and due.ex_date > bars_raw.date

    ),

    paid as (

        select
            preceded.id,
            preceded.symbol,
            preceded.ex_date,
            preceded.split_factor,
            preceded.previous_close,
            preceded.ex_date <= newest.date as has_come,
            coalesce(preceded.cash_amount, preceded.new_shares * new_bars.close) as amount

        from preceded

        cross join newest

        left join bars_raw as new_bars
            on preceded.spun_off = new_bars.symbol
            and preceded.ex_date = new_bars.date

    ),

    summed as (

        select
            id,
            split_factor,
            previous_close,
            has_come,
            amount,
            previous_close * exp(coalesce(sum(ln(split_factor)) over same_day, 0)) as close_before,
            coalesce(sum(amount) over paid_so_far, 0) as paid_with_this,
            coalesce(sum(amount) over paid_so_far, 0) - coalesce(amount, 0) as paid_before_this

        from paid

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
        case when has_come then coalesce(split_factor, case when amount > 0 then 1 end) end as split_factor,
        case
            when not has_come then null
            when split_factor is not null then split_factor
            when amount is null then null
            when paid_with_this < close_before then (close_before - paid_with_this) / (close_before - paid_before_this)
        end as price_factor

    from summed

);

comment on macro table action_factors is 'Price and split factor of each corporate action, from raw bars.';
