-- require_between: true, or an error that names the parameter: what keeps an indicator's factors in bounds.
-- what: indicator and parameter, as 'bbands: upper_deviations' | least, most: both allowed
create or replace macro require_between(what, value, least, most) as (

    case
        when value between least and most then true
        else error(
            what || ' must be from ' || least::varchar || ' to ' || most::varchar || ', got '
            || coalesce(value::varchar, 'null')
        )
    end

);

comment on macro require_between is 'True, or an error: value must be between least and most.';
