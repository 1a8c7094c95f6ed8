-- wilder_average: Wilder's moving average of x with the factor 1 / n, seeded with the mean of its first n values.
-- x: a column, null before the first bar | weights: wilder_weights(bar_number, n) | needs columns symbol, timestamp
-- not warm while bar_number < n; NaN from a NaN on
-- source: J. Welles Wilder, New Concepts in Technical Trading Systems (1978)
-- look-back: wilder_look_back(n)
create or replace macro wilder_average(x, weights, n) as (

    1.0 / n * decayed_sum(x, weights, 1 - 1.0 / n)

);

comment on macro wilder_average is 'Wilder''s moving average of x, seeded with the mean of its first n values.';
