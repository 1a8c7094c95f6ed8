-- snapped: an average, and the price itself where they are equal but for rounding, so that neither is above the other.
create or replace macro snapped(average, price) as (

    average + (price - average) * cast(abs(average - price) <= 1e-12 * abs(price) as double)

);

comment on macro snapped is 'An average, and the price itself where they are equal but for rounding.';
