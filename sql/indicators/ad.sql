-- ad: Chaikin accumulation / distribution line: volume times where the close is between low and high, added up.
-- grain: symbol, timestamp | unit: shares | counted from the first stored bar on, so its level depends on where that is
-- source: Marc Chaikin; equal to TA-Lib's AD
create or replace macro ad(source := 'bars') as table (

    select
        symbol,
        timestamp,
        nan_as_null(sum(flow) over bars_so_far) as ad

    from money_flows(source := source)

    window bars_so_far as (partition by symbol order by timestamp rows unbounded preceding)

);

comment on macro table ad is 'Accumulation / distribution line, shares.';
