-- adjustments: cumulative factors as steps in time, one row per symbol and ex-date with an effect.
-- grain: symbol, ex_date | valid_from (included) to valid_to (not included): the sessions the factors hold for
-- price_factor: of every action from ex_date on, prices are multiplied by it; split_factor: of the splits among them,
-- volumes are divided by it
-- lens: since and as_of, as in bars_raw
--
-- Products of lists, newest action first: a window's product would depend in its last digit on the other rows that are
-- read, and a sum of logarithms would make 0.4999… of a 2:1 split.
create or replace view adjustments as

    with

    -- one list, sorted as a whole: a list with an order of its own for each column is four times as slow
    effective as (

        select
            applies_to as symbol,
            list_reverse_sort(list(struct_pack(ex_date, id, price_factor, split_factor))) as actions

        from corporate_actions

        where price_factor is not null
            -- an action before the first visible bar changes no bar
            and (getvariable('since') is null or ex_date > getvariable('since')::date)

        group by applies_to

    ),

    listed as (

        select
            symbol,
            list_transform(actions, lambda action: action.ex_date) as ex_dates,
            list_transform(actions, lambda action: action.price_factor) as price_factors,
            list_transform(actions, lambda action: action.split_factor) as split_factors

        from effective

    ),

    steps as (

        select
            symbol,
            unnest(list_transform(
                range(1, len(ex_dates) + 1),
                lambda actions: struct_pack(
                    valid_from := coalesce(ex_dates[actions + 1], date '0001-01-01'),
                    valid_to := ex_dates[actions],
                    price_factor := list_aggregate(price_factors[:actions], 'product'),
                    split_factor := list_aggregate(split_factors[:actions], 'product')
                )
            )) as step

        from listed

    )

    select
        symbol,
        step.valid_to as ex_date,
        step.valid_from,
        step.valid_to,
        step.price_factor,
        step.split_factor

    from steps

    -- of several actions on one day, the last step holds all of them
    where step.valid_from < step.valid_to;

comment on view adjustments is 'Cumulative price and split factors per symbol, as steps between ex-dates.';
