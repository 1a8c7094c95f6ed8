-- exponential_average: moving average of x with the factor 2 / (n + 1), seeded with the mean of its first n values.
-- x: a column, null before the first bar | weights: ema_weights(bar_number, n) | needs columns symbol, timestamp
-- not warm while bar_number < n; NaN from a NaN on | equal to TA-Lib's EMA
-- look-back: ema_look_back(n)
create or replace macro exponential_average(x, bar_number, weights, n) as (

    2.0 / (n + 1) * decayed_sum(
        x * case when bar_number <= n then (n + 1) / (2.0 * n) else 1 end, weights, 1 - 2.0 / (n + 1)
    )

);

comment on macro exponential_average is 'Exponential moving average of x, seeded with the mean of its first n values.';
