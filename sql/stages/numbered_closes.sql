-- numbered_closes: each close with its bar's number.
-- grain: symbol, timestamp
-- gives bar_number: 1 on a symbol's first bar, close: NaN where it is missing
create or replace macro numbered_closes(source := 'bars') as table (

    select
        symbol,
        timestamp,
        null_as_nan(close) as close,
        row_number() over (partition by symbol order by timestamp) as bar_number

    from query_table(source)

);

comment on macro table numbered_closes is 'The close, NaN where it is missing, with bar numbers.';
