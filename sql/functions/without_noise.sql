-- without_noise: x, and 0 where it is nothing but the rounding of the numbers that it was made of.
-- size: one of these numbers | noise: up to 1e-12 of it, as much as averages with a long memory leave out
--
-- The one rule for ties and flat stretches. Adjusted prices that are equal may differ in their last bits across an
-- ex-date, and what equal prices add up to depends on where the sum begins. A tick is more: $0.0001 of $1,000,000 is 1e-10.
-- Not a CASE: DuckDB would compute x twice.
create or replace macro without_noise(x, size) as (

    x * cast(abs(x) > 1e-12 * abs(size) as double)

);

comment on macro without_noise is 'x, and 0 where it is only rounding.';
