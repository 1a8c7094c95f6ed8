-- current_price: the close of the bar.
-- grain: symbol, timestamp | unit: USD per share
-- look-back: 0
create or replace macro current_price(source := 'bars') as table (

    select
        symbol,
        timestamp,
        close as current_price

    from query_table(source)

);

comment on macro table current_price is 'Close of the bar, USD per share.';
