-- universe: the symbols that traded on a day, delisted and renamed ones included: where a backtest without survivorship
-- bias begins.
-- grain: symbol | the day: variable as_of, or the newest stored session | last_date: the last bar up to that day
-- a symbol traded if it has a bar on one of the last five sessions up to the day: halts are shorter, ends are longer
create or replace view universe as

    with

    recent as (

        select date

        from (select distinct date from bars_raw)

        order by date desc

        limit 5

    )

    select
        symbol,
        min(date) as first_date,
        max(date) as last_date,
        count(*) as bars

    from bars_raw

    group by symbol

    having max(date) >= (select min(date) from recent);

comment on view universe is 'The symbols that traded on a day, those that have ended since included.';
