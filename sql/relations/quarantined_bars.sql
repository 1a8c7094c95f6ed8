-- quarantined_bars: bars that the vendor sent and that were not stored, with the reason.
-- grain: run, symbol, timestamp, reason | sent: the values as JSON | newest run first
create or replace view quarantined_bars as

    select
        run_id,
        started_at,
        bar.symbol,
        bar.timestamp,
        cast(timezone('America/New_York', bar.timestamp) as date) as date,
        bar.reason,
        bar.sent

    from (select run_id, started_at, unnest(quarantined) as bar from refresh_runs)

    order by started_at desc, bar.symbol, bar.timestamp;

comment on view quarantined_bars is 'Bars that were not stored, with their values as sent and the reason.';
