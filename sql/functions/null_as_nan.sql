-- null_as_nan: the value, NaN where it is missing: aggregates skip nulls silently, but a NaN shows in every result.
create or replace macro null_as_nan(x) as (

    coalesce(cast(x as double), 'nan'::double)

);

comment on macro null_as_nan is 'The value as a double, NaN where it is null.';
