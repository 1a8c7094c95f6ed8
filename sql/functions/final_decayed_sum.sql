-- final_decayed_sum: decayed_sum on the last bar of a symbol, as an aggregate over all its bars.
-- x: a column, left out before bar 1 | bar_number, seed_bars, q: as in decay_weights
-- bars_after: how many bars come after this one, 0 on the last
create or replace macro final_decayed_sum(x, bar_number, seed_bars, q, bars_after) as (

    sum(x * pow(
        q,
        case when bar_number >= seed_bars then bars_after else greatest(bar_number + bars_after - seed_bars, 0) end
    )) filter (bar_number >= 1)

);

comment on macro final_decayed_sum is 'Decaying sum on the last bar, an aggregate.';
