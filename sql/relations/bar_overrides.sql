-- bar_overrides: bars on which a person's word counts instead of the vendor's, or that a person has found to be right.
-- grain: symbol, date | override: 'replace', 'drop' or 'accept' | values: the fields replaced, as JSON
-- vendor: the bar as the vendor sent it last, as JSON | they stand in the metadata of the partitions that they change
create or replace view bar_overrides as

    with

    listed as (

        select unnest(from_json(decode(value), '["json"]')) as entry

        from parquet_kv_metadata(
            coalesce(getvariable('bars_raw'), [getvariable('market_data') || '/bars/timeframe=1Day/*/bars.parquet'])
        )

        where decode(key) = 'bar_overrides'

    )

    select
        entry ->> 'symbol' as symbol,
        cast(entry ->> 'session' as date) as date,
        entry ->> 'override' as override,
        cast(entry -> 'values' as varchar) as values,
        entry ->> 'reason' as reason,
        cast(entry ->> 'overridden_at' as timestamptz) as overridden_at,
        cast(entry -> 'vendor' as varchar) as vendor

    from listed;

comment on view bar_overrides is 'Bars that a person has replaced, dropped or found right, with the vendor''s values.';
