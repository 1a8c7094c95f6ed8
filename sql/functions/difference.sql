-- difference: a - b, and 0 where they are equal but for rounding: what tells a rise from a tie.
create or replace macro difference(a, b) as (

    without_noise(a - b, a)

);

comment on macro difference is 'a - b, and 0 where they are equal but for rounding.';
