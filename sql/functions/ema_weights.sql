-- ema_weights: what exponential_average needs to know of a bar; computed once, it serves any number of averages.
-- bar_number: 1 on the first bar that is averaged, less before it | n: bars
create or replace macro ema_weights(bar_number, n) as (

    decay_weights(bar_number, n, 1 - 2.0 / (n + 1))

);

comment on macro ema_weights is 'Weights of a bar in exponential_average.';
