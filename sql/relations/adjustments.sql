-- adjustments: what prices are multiplied by, as steps in time: one row per symbol and ex-date with an effect.
-- grain: symbol, ex_date | valid_from (included) to valid_to (not included): the sessions the factors hold for
-- price_factor: of every action from ex_date on; split_factor: of the splits among them; volumes are divided by it
--
-- Products of lists, in order: a window's product would depend in its last digit on what else is read beside it, and
-- a sum of logarithms would make 0.4999… of a 2:1 split.
create or replace view adjustments as

    with

    days as (

        select
            symbol,
            ex_date,
            list_aggregate(list(price_factor order by id), 'product') as price_factor,
            list_aggregate(list(split_factor order by id), 'product') as split_factor

        from corporate_actions

        where price_factor is not null

        group by symbol, ex_date

    )

    select
        symbol,
        ex_date,
        coalesce(lag(ex_date) over (partition by symbol order by ex_date), date '0001-01-01') as valid_from,
        ex_date as valid_to,
        list_aggregate(list(price_factor) over later_days, 'product') as price_factor,
        list_aggregate(list(split_factor) over later_days, 'product') as split_factor

    from days

    window later_days as (
        partition by symbol
        order by ex_date desc
        rows between unbounded preceding and current row
    );

comment on view adjustments is 'Cumulative price and split factors per symbol, as steps between ex-dates.';
