-- ema_look_back: bars before a row after which an exponential average over n bars remembers less than 1e-12.
create or replace macro ema_look_back(n) as (

    n + ceil(ln(1e-12) / ln(greatest(1 - 2.0 / (n + 1), 1e-12)))

);

comment on macro ema_look_back is 'Bars after which an exponential average over n bars has forgotten the rest.';
