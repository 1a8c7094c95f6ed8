-- sessions: the exchange's sessions (XNYS) from 2000 to the end of next year, as the overnight refresh writes them.
-- grain: date | open, close: UTC | is_early_close: closes before 16:00 New York
-- announced sessions, not past ones alone: neither since nor as_of hides any
create or replace view sessions as

    select
        date,
        open,
        close,
        is_early_close

    from read_parquet(coalesce(getvariable('sessions'), [getvariable('market_data') || '/sessions/*.parquet']));

comment on view sessions is 'Sessions of the exchange: date, open and close in UTC, early closes.';
