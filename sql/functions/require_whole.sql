-- require_whole: true, or an error that names the parameter: what keeps an indicator's numbers of bars in bounds.
-- what: indicator and parameter, as 'sma: n' | least: the smallest whole number allowed; 100000 is the largest
create or replace macro require_whole(what, value, least) as (

    case
        when value >= least and value <= 100000 and value % 1 = 0 then true
        else error(
            what || ' must be a whole number from ' || least::varchar || ' to 100000, got '
            || coalesce(value::varchar, 'null')
        )
    end

);

comment on macro require_whole is 'True, or an error: value must be a whole number from least to 100000.';
