-- rounded_price: x to 40 significant bits, 12 digits: so that the newest of equal extremes is found.
-- source: T. J. Dekker, A floating-point technique for extending the available precision (1971); 8193 = 2^13 + 1
create or replace macro rounded_price(x) as (

    x * 8193 - (x * 8193 - x)

);

comment on macro rounded_price is 'x to 40 significant bits.';
