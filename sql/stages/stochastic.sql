-- stochastic: where the close is between the lowest low and the highest high of the last n bars.
-- n: bars | grain: symbol, timestamp
-- gives bar_number, raw_k: 0 to 100, null until n bars are there, 0 where prices did not move
-- source: George Lane
create or replace macro stochastic(n := 14, source := 'bars') as table (

    select
        symbol,
        timestamp,
        bar_number,
        case
            when bar_number >= n
                then difference(close, lowest) * coalesce(100 / nullif(difference(highest, lowest), 0), 0)
        end as raw_k

    from price_range(n, source := source)

);

comment on macro table stochastic is 'Stochastic oscillator before it is averaged, 0 to 100.';
