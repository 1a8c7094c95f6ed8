-- wilder_weights: what wilder_average needs to know of a bar; computed once, it serves any number of averages.
-- bar_number: 1 on the first bar that is averaged, less before it | n: bars
create or replace macro wilder_weights(bar_number, n) as (

    decay_weights(bar_number, n, 1 - 1.0 / n)

);

comment on macro wilder_weights is 'Weights of a bar in wilder_average.';
