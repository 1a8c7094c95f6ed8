-- nan_as_null: the value, null where it is NaN: the way back from null_as_nan.
create or replace macro nan_as_null(x) as (

    case when not isnan(x) then x end

);

comment on macro nan_as_null is 'The value, null where it is NaN.';
