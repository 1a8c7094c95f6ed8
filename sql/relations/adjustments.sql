-- adjustments: what prices are multiplied by, as steps in time: one row per symbol and ex-date with an effect.
-- grain: symbol, ex_date | valid_from (included) to valid_to (not included): the sessions the factors hold for
-- price_factor: of every action from ex_date on; split_factor: of the splits among them; volumes are divided by it
--
-- Products of lists, newest action first: a window's product would depend in its last digit on what else is read
-- beside it, and a sum of logarithms would make 0.4999… of a 2:1 split.
create or replace view adjustments as

    with

    listed as (

        select
            symbol,
            list(ex_date order by ex_date desc, id) as ex_dates,
            list(price_factor order by ex_date desc, id) as price_factors,
            list(split_factor order by ex_date desc, id) as split_factors

        from corporate_actions

        where price_factor is not null

        group by symbol

    ),

    cumulative as (

        select
            symbol,
            unnest(ex_dates) as ex_date,
            unnest(range(1, len(ex_dates) + 1)) as actions,
            unnest(list_transform(
                range(1, len(ex_dates) + 1), lambda actions: list_aggregate(price_factors[:actions], 'product')
            )) as price_factor,
            unnest(list_transform(
                range(1, len(ex_dates) + 1), lambda actions: list_aggregate(split_factors[:actions], 'product')
            )) as split_factor

        from listed

    ),

    days as (

        select
            symbol,
            ex_date,
            arg_max(price_factor, actions) as price_factor,
            arg_max(split_factor, actions) as split_factor

        from cumulative

        group by symbol, ex_date

    )

    select
        symbol,
        ex_date,
        coalesce(lag(ex_date) over (partition by symbol order by ex_date), date '0001-01-01') as valid_from,
        ex_date as valid_to,
        price_factor,
        split_factor

    from days;

comment on view adjustments is 'Cumulative price and split factors per symbol, as steps between ex-dates.';
