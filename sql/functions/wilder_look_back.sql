-- wilder_look_back: bars before a row after which Wilder's average over n bars remembers less than 1e-12.
create or replace macro wilder_look_back(n) as (

    n + ceil(ln(1e-12) / ln(greatest(1 - 1.0 / n, 1e-12)))

);

comment on macro wilder_look_back is 'Bars after which Wilder''s average over n bars has forgotten the rest.';
