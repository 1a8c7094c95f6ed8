-- bars_raw: daily bars as traded, unadjusted, straight from the lake.
-- grain: symbol, timestamp | units: USD per share, shares | timestamp: UTC, date: the New York session
-- lens: variable since hides (and does not read) older bars, variable as_of hides bars after that day's close
create or replace view bars_raw as

    select
        symbol,
        date,
        timestamp,
        open,
        high,
        low,
        close,
        vwap,
        volume,
        trade_count,
        is_final

    from read_parquet(
        coalesce(getvariable('bars_raw'), [getvariable('market_data') || '/bars/timeframe=1Day/*/bars.parquet']),
        hive_partitioning = true,
        hive_types = {'timeframe': varchar, 'year': integer}
    )

    -- the year conditions prune whole objects: they fold to constants before S3 is asked
    where (
            getvariable('since') is null
            or (
                year >= year(getvariable('since')::date)
                and date >= getvariable('since')::date
            )
        )
        and (
            getvariable('as_of') is null
            or (
                year <= year(getvariable('as_of')::date)
                and date <= getvariable('as_of')::date
            )
        );

comment on view bars_raw is 'Daily bars as traded, unadjusted.';
