-- refresh_runs: the effect of each refresh, newest first; the audit trail.
-- grain: run_id | date: of started_at, UTC; a condition on it leaves the other days' objects unread
-- outcomes: one entry per symbol, unnest it for details | quarantined, altered: as in quarantined_bars and altered_bars
create or replace view refresh_runs as

    select
        date,
        run_id,
        mode,
        status,
        started_at,
        finished_at,
        feed,
        first_session,
        last_session,
        symbols,
        added,
        finalised,
        restated,
        unchanged,
        no_data,
        failed,
        partitions_written,
        alpaca_requests,
        s3_requests,
        s3_bytes_sent,
        s3_bytes_received,
        seconds,
        outcomes,
        quarantined,
        altered

    from read_parquet(
        coalesce(getvariable('refresh_runs'), [getvariable('market_data') || '/refresh_runs/*/*.parquet']),
        hive_partitioning = true,
        union_by_name = true,
        hive_types = {'date': date}
    )

    order by started_at desc;

comment on view refresh_runs is 'The effect of each refresh: counts, outcomes per symbol, quarantined bars.';
