-- money_flows: volume, weighted by where the close is between low and high.
-- grain: symbol, timestamp | gives bar_number, flow: shares, -volume to volume, NaN where something is missing
-- source: Marc Chaikin
create or replace macro money_flows(source := 'bars') as table (

    select
        symbol,
        timestamp,
        null_as_nan(
            case
                when difference(high, low) > 0 then volume * (2 * close - low - high) / (high - low)
                else 0 * close * volume
            end
        ) as flow,
        row_number() over (partition by symbol order by timestamp) as bar_number

    from query_table(source)

);

comment on macro table money_flows is 'Money flow volume of each bar, shares.';
