-- adjustments_by_year: adjustments, once for each year that a step has sessions in, for joins with bars.
-- grain: symbol, year, ex_date | year: 2000 stands for all years before it, too
-- lens: since and as_of, as in bars_raw
--
-- A join by symbol alone holds each bar against every action of its symbol; with the year, against those of that year.
create or replace view adjustments_by_year as

    select
        symbol,
        unnest(range(
            greatest(year(valid_from), 2000, year(getvariable('since')::date)),
            greatest(year(valid_to - 1), 2000) + 1
        )) as year,
        ex_date,
        valid_from,
        valid_to,
        price_factor,
        split_factor

    from adjustments;

comment on view adjustments_by_year is 'Cumulative price and split factors per symbol and year, for joins with bars.';
