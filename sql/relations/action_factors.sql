-- action_factors: what becomes of each action, and the factor by which it multiplies the prices before its ex-date.
-- grain: id | actions: a relation of the shape of corporate_actions
-- expected: a session whose bars are about to be stored: its actions count from now on, so that no reader meets them late
-- split: old_rate / new_rate; stock dividend: 1 / (1 + rate); cash dividend: 1 - amount / previous close, the close in
-- terms of the shares after a split of the same day; spin-off: as a dividend of the new shares, at their first close
-- within ten days, from the lake's bars or else as it was fetched for the purpose (new_close).
-- Dividends of one day add up: 3 and 2 after a close of 50 make 0.9.
-- status: applied; upcoming (its day has no bar yet); announced (the vendor has not completed it); withdrawn; dropped;
--   duplicate (the same under another id); superseded (the same split on another day, another split on the same day, or
--   nearly the same dividend: one counts); absurd (dividends that are not below the close); unknown; none (no effect)
-- Of several versions the one counts that fits the overnight move of its day, then the one processed last: what arrived
-- first does not matter, so that every order of arrivals ends in the same prices.
-- factors are null unless applied | rule: the version of these formulas, stored beside what they give
create or replace macro action_factors(actions := 'corporate_actions', expected := null) as table (

    with

    stated as (

        select
            id,
            type,
            applies_to as symbol,
            ex_date,
            process_date,
            special,
            case
                when type in ('forward_split', 'reverse_split', 'unit_split') then old_rate / new_rate
                when type = 'stock_dividend' then 1 / (1 + cash_amount)
            end as split_factor,
            case when type = 'cash_dividend' then cash_amount end as cash_amount,
            case when type = 'spin_off' then new_rate / old_rate end as new_shares,
            case when type = 'spin_off' then new_symbol end as spun_off,
            case when type = 'spin_off' then new_close end as new_close,
            case
                when override = 'drop' then 'dropped'
                when withdrawn_at is not null then 'withdrawn'
                when is_announced then 'announced'
                when applies_to is null
                    or type not in (
                        'forward_split', 'reverse_split', 'unit_split', 'stock_dividend', 'cash_dividend', 'spin_off'
                    )
                    then 'none'
                when row_number() over (
                    partition by
                        applies_to, type, ex_date, cash_amount, old_rate, new_rate, new_symbol, special,
                        override is distinct from 'drop' and withdrawn_at is null and not coalesce(is_announced, false)
                    -- the vendor's before a person's
                    order by starts_with(id, 'user-'), id
                ) > 1
                    then 'duplicate'
            end as status

        from query_table(actions)

    ),

    newest as (

        select greatest(max(date), expected::date) as date

        from bars_raw

    ),

    -- asof finds the bar before each ex-date without pairing every action with every bar
    with_previous_close as (

        select
            due.*,
            bars_raw.close as previous_close

        from (from stated where status is null) as due

        asof left join bars_raw
            on due.symbol = bars_raw.symbol
            and due.ex_date > bars_raw.date

    ),

    first_closes as (

        select
            spin_offs.id,
            arg_min(bars_raw.close, bars_raw.date) as close

        from (from stated where status is null and spun_off is not null) as spin_offs

        join bars_raw
            on spin_offs.spun_off = bars_raw.symbol
            and bars_raw.date between spin_offs.ex_date and spin_offs.ex_date + 10

        group by spin_offs.id

    ),

    with_move as (

        select
            with_previous_close.*,
            coalesce(with_previous_close.ex_date <= newest.date, false) as is_effective,
            coalesce(
                with_previous_close.cash_amount,
                with_previous_close.new_shares
                * coalesce(first_closes.close, with_previous_close.new_close)
            ) as amount,
            -- 0: the overnight move looks like the split, 2: it does not, 1: there is none to look at
            case
                when own_bars.open is null or with_previous_close.previous_close is null then 1
                when
                    abs(ln(own_bars.open / with_previous_close.previous_close / with_previous_close.split_factor))
                    <= abs(ln(with_previous_close.split_factor)) / 2
                    then 0
                else 2
            end as misfit,
            abs(ln(own_bars.open / with_previous_close.previous_close / with_previous_close.split_factor)) as distance

        from with_previous_close

        cross join newest

        left join first_closes using (id)

        left join bars_raw as own_bars
            on with_previous_close.split_factor is not null
            and with_previous_close.symbol = own_bars.symbol
            and with_previous_close.ex_date = own_bars.date

    ),

    superseded as (

        select worse.id

        from with_move as worse

        join with_move as better
            on worse.symbol = better.symbol
            and worse.split_factor is not null
            and better.split_factor is not null
            and worse.id <> better.id

        where (
                worse.ex_date = better.ex_date
                or (
                    abs(worse.ex_date - better.ex_date) <= 7
                    and abs(ln(worse.split_factor / better.split_factor)) < 1e-9
                )
            )
            and case
                when better.misfit <> worse.misfit then better.misfit < worse.misfit
                when better.distance <> worse.distance then better.distance < worse.distance
                when better.process_date <> worse.process_date then better.process_date > worse.process_date
                when better.ex_date <> worse.ex_date then better.ex_date > worse.ex_date
                else better.id < worse.id
            end

        union

        select worse.id

        from with_move as worse

        join with_move as better
            on worse.symbol = better.symbol
            and worse.ex_date = better.ex_date
            and worse.special is not distinct from better.special
            and worse.cash_amount is not null
            and better.cash_amount is not null

        where greatest(worse.cash_amount / better.cash_amount, better.cash_amount / worse.cash_amount) < 1.1
            and case
                when better.process_date <> worse.process_date then better.process_date > worse.process_date
                when better.cash_amount <> worse.cash_amount then better.cash_amount > worse.cash_amount
                else better.id < worse.id
            end

    ),

    before_payment as (

        select
            with_move.*,
            previous_close * exp(coalesce(sum(ln(split_factor)) over (partition by symbol, ex_date), 0)) as close_before

        from with_move

        anti join superseded using (id)

    ),

    -- a dividend that is not below the close leaves those of the same day as they are
    counted as (

        select
            * exclude (amount),
            coalesce(amount >= close_before, false) as is_absurd,
            case when not coalesce(amount >= close_before, false) then amount end as amount

        from before_payment

    ),

    summed as (

        select
            *,
            coalesce(sum(amount) over same_day, 0) as paid,
            coalesce(sum(amount) over paid_so_far, 0) as paid_with_this,
            coalesce(sum(amount) over paid_so_far, 0) - coalesce(amount, 0) as paid_before_this

        from counted

        window
            same_day as (partition by symbol, ex_date),
            paid_so_far as (
                partition by symbol, ex_date
                order by id
                rows between unbounded preceding and current row
            )

    ),

    priced as (

        select
            id,
            case
                when not is_effective then 'upcoming'
                when split_factor is not null then 'applied'
                when is_absurd or paid >= close_before then 'absurd'
                when amount is null or previous_close is null then 'unknown'
                else 'applied'
            end as status,
            coalesce(split_factor, 1) as split_factor,
            coalesce(
                split_factor,
                (close_before - paid_with_this) / (close_before - paid_before_this)
            ) as price_factor

        from summed

    )

    select
        stated.id,
        with_move.previous_close,
        case when priced.status = 'applied' then priced.split_factor end as split_factor,
        case when priced.status = 'applied' then priced.price_factor end as price_factor,
        coalesce(stated.status, priced.status, 'superseded') as status,
        3 as rule

    from stated

    left join with_move using (id)

    left join priced using (id)

);

comment on macro table action_factors is 'Status, price and split factor of each corporate action, from raw bars.';
