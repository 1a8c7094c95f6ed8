-- true_range: from the lower to the higher of the bar's low and high and the close before; NaN if one of them is.
-- source: J. Welles Wilder, New Concepts in Technical Trading Systems (1978)
--
-- least() would pass over a NaN, which is the greatest of all numbers: the lower end is taken in a mirror.
create or replace macro true_range(high, low, previous_close) as (

    difference(greatest(high, previous_close), -greatest(-low, -previous_close))

);

comment on macro true_range is 'True range of a bar, USD per share.';
