-- init.sql: the whole layer in the duckdb shell, from environment variables alone. From the project's root:
--
--     duckdb -init sql/init.sql
--
-- needs MARKET_DATA_BUCKET (bucket, bucket/prefix or s3://bucket/prefix), AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY;
-- reads AWS_SESSION_TOKEN, AWS_REGION (or AWS_DEFAULT_REGION), AWS_ENDPOINT_URL_S3 (or AWS_ENDPOINT_URL; https where it
-- says nothing else), MARKET_DATA_URL_STYLE (path or vhost) and AWS_CA_BUNDLE where set. Profiles are read by
-- `alchemiser-duck shell`, which starts the same with what it finds there.
-- Nothing below opens S3: the views meet the lake when they are first queried.

install httpfs; -- nothing happens where it is installed
load httpfs;
-- httpfs copies the environment's credentials into readable settings; the secret below replaces them
set s3_access_key_id = '';
set s3_secret_access_key = '';
set s3_session_token = '';

set timezone = 'UTC';
-- threads mostly wait for S3: one request in flight per thread
set threads = 16;
-- few actions are looked up among many bars by a sort, not one by one
set asof_loop_join_threshold = 0;

set variable s3_endpoint = coalesce(nullif(getenv('AWS_ENDPOINT_URL_S3'), ''), nullif(getenv('AWS_ENDPOINT_URL'), ''));

set variable is_ready = case
    when coalesce(getenv('MARKET_DATA_BUCKET'), '') = ''
        then error('MARKET_DATA_BUCKET is not set; for example: export MARKET_DATA_BUCKET=my-bucket/market')
    when coalesce(getenv('AWS_ACCESS_KEY_ID'), '') = '' or coalesce(getenv('AWS_SECRET_ACCESS_KEY'), '') = ''
        then error('there are no keys: export AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or type alchemiser-duck shell')
    else true
end;

create or replace temporary secret market_data (
    type s3,
    key_id getenv('AWS_ACCESS_KEY_ID'),
    secret getenv('AWS_SECRET_ACCESS_KEY'),
    session_token getenv('AWS_SESSION_TOKEN'),
    region coalesce(nullif(getenv('AWS_REGION'), ''), nullif(getenv('AWS_DEFAULT_REGION'), ''), 'us-east-1'),
    endpoint coalesce(regexp_replace(getvariable('s3_endpoint'), '^https?://|/+$', '', 'g'), 's3.amazonaws.com'),
    url_style coalesce(
        nullif(getenv('MARKET_DATA_URL_STYLE'), ''),
        case
            when getvariable('s3_endpoint') is null
                and not contains(split_part(replace(getenv('MARKET_DATA_BUCKET'), 's3://', ''), '/', 1), '.') then 'vhost'
            else 'path' -- a dotted bucket has no TLS certificate of its own
        end
    ),
    use_ssl coalesce(getvariable('s3_endpoint'), '') not like 'http://%'
);

-- views are bound to an empty lake of the same schema, so that they load offline
set variable market_data = 'sql/empty_lake';

-- one line per file, in the order of their dependencies; Python loads the same list
.read sql/relations/bars_raw.sql
.read sql/relations/bar_overrides.sql
.read sql/relations/corporate_actions.sql
.read sql/relations/corporate_action_overrides.sql
.read sql/relations/action_owners.sql
.read sql/relations/action_factors.sql
.read sql/relations/adjustments.sql
.read sql/relations/adjustments_by_year.sql
.read sql/relations/bars.sql
.read sql/relations/bars_split.sql
.read sql/relations/corporate_action_suspects.sql
.read sql/relations/sessions.sql
.read sql/relations/bars_of_periods.sql
.read sql/relations/bars_weekly.sql
.read sql/relations/bars_monthly.sql
.read sql/relations/listings.sql
.read sql/relations/symbols.sql
.read sql/relations/universe.sql
.read sql/relations/refresh_runs.sql
.read sql/relations/quarantined_bars.sql
.read sql/relations/altered_bars.sql
.read sql/relations/freshness.sql
.read sql/relations/gaps.sql
.read sql/relations/anomalies.sql
.read sql/relations/findings.sql
.read sql/functions/require_whole.sql
.read sql/functions/require_between.sql
.read sql/functions/null_as_nan.sql
.read sql/functions/without_noise.sql
.read sql/functions/difference.sql
.read sql/functions/snapped.sql
.read sql/functions/rounded_price.sql
.read sql/functions/nan_as_null.sql
.read sql/functions/true_range.sql
.read sql/functions/decay_rows.sql
.read sql/functions/decay_weights.sql
.read sql/functions/decayed_sum.sql
.read sql/functions/final_decayed_sum.sql
.read sql/functions/ema_weights.sql
.read sql/functions/exponential_average.sql
.read sql/functions/ema_look_back.sql
.read sql/functions/wilder_weights.sql
.read sql/functions/wilder_average.sql
.read sql/functions/wilder_look_back.sql
.read sql/stages/numbered_closes.sql
.read sql/stages/earlier_close.sql
.read sql/stages/daily_returns.sql
.read sql/stages/true_ranges.sql
.read sql/stages/average_true_range.sql
.read sql/stages/directional_moves.sql
.read sql/stages/directional_index.sql
.read sql/stages/average_directional_index.sql
.read sql/stages/exponential_average_1.sql
.read sql/stages/exponential_average_2.sql
.read sql/stages/exponential_average_3.sql
.read sql/stages/fast_and_slow.sql
.read sql/stages/simple_averages.sql
.read sql/stages/gains_and_moves.sql
.read sql/stages/price_range.sql
.read sql/stages/stochastic.sql
.read sql/stages/newest_extremes.sql
.read sql/stages/regression_line.sql
.read sql/stages/money_flows.sql
.read sql/stages/unsettled_symbols.sql
.read sql/indicators/accbands.sql
.read sql/indicators/ad.sql
.read sql/indicators/adosc.sql
.read sql/indicators/adx.sql
.read sql/indicators/adxr.sql
.read sql/indicators/apo.sql
.read sql/indicators/aroon.sql
.read sql/indicators/aroonosc.sql
.read sql/indicators/atr.sql
.read sql/indicators/avgdev.sql
.read sql/indicators/avgprice.sql
.read sql/indicators/bbands.sql
.read sql/indicators/beta.sql
.read sql/indicators/bop.sql
.read sql/indicators/cci.sql
.read sql/indicators/cmo.sql
.read sql/indicators/correl.sql
.read sql/indicators/cumulative_return.sql
.read sql/indicators/current_price.sql
.read sql/indicators/dema.sql
.read sql/indicators/donchian.sql
.read sql/indicators/dx.sql
.read sql/indicators/ema.sql
.read sql/indicators/imi.sql
.read sql/indicators/keltner.sql
.read sql/indicators/linearreg.sql
.read sql/indicators/linearreg_angle.sql
.read sql/indicators/linearreg_intercept.sql
.read sql/indicators/linearreg_slope.sql
.read sql/indicators/macd.sql
.read sql/indicators/macdext.sql
.read sql/indicators/macdfix.sql
.read sql/indicators/max_drawdown.sql
.read sql/indicators/medprice.sql
.read sql/indicators/mfi.sql
.read sql/indicators/midpoint.sql
.read sql/indicators/midprice.sql
.read sql/indicators/minus_di.sql
.read sql/indicators/minus_dm.sql
.read sql/indicators/mom.sql
.read sql/indicators/moving_average_return.sql
.read sql/indicators/natr.sql
.read sql/indicators/obv.sql
.read sql/indicators/plus_di.sql
.read sql/indicators/plus_dm.sql
.read sql/indicators/ppo.sql
.read sql/indicators/roc.sql
.read sql/indicators/rocp.sql
.read sql/indicators/rocr.sql
.read sql/indicators/rocr100.sql
.read sql/indicators/rolling_max.sql
.read sql/indicators/rolling_min.sql
.read sql/indicators/rolling_sum.sql
.read sql/indicators/rolling_vwap.sql
.read sql/indicators/rsi.sql
.read sql/indicators/sma.sql
.read sql/indicators/stddev.sql
.read sql/indicators/stdev_price.sql
.read sql/indicators/stdev_return.sql
.read sql/indicators/stoch.sql
.read sql/indicators/stochf.sql
.read sql/indicators/stochrsi.sql
.read sql/indicators/t3.sql
.read sql/indicators/tema.sql
.read sql/indicators/trange.sql
.read sql/indicators/trima.sql
.read sql/indicators/trix.sql
.read sql/indicators/tsf.sql
.read sql/indicators/typprice.sql
.read sql/indicators/ultosc.sql
.read sql/indicators/var.sql
.read sql/indicators/wclprice.sql
.read sql/indicators/willr.sql
.read sql/indicators/wma.sql
.read sql/indicators/ma.sql
.read sql/indicators/sma_20.sql
.read sql/indicators/sma_50.sql
.read sql/indicators/sma_200.sql
.read sql/indicators/rsi_14.sql
.read sql/indicators/indicators.sql

set variable sip_delay_minutes = cast(coalesce(nullif(getenv('ALPACA_SIP_DELAY_MINUTES'), ''), '15') as integer);

set variable market_data = case
    when coalesce(getenv('MARKET_DATA_BUCKET'), '') = ''
        then error('MARKET_DATA_BUCKET is not set; for example: export MARKET_DATA_BUCKET=my-bucket/market')
    else 's3://' || regexp_replace(getenv('MARKET_DATA_BUCKET'), '^s3://|/+$', '', 'g')
end;
