-- altered_bars: values of bars that are not what is stored: fractions of shares, and bars before they were restated.
-- grain: run, symbol, timestamp, reason | sent: the values as JSON | newest run first
create or replace view altered_bars as

    select
        run_id,
        started_at,
        bar.symbol,
        bar.timestamp,
        cast(timezone('America/New_York', bar.timestamp) as date) as date,
        bar.reason,
        bar.sent

    from (select run_id, started_at, unnest(altered) as bar from refresh_runs)

    order by started_at desc, bar.symbol, bar.timestamp;

comment on view altered_bars is 'Values that were sent and are not stored: fractional volumes, bars before a restatement.';
