-- listings: who had which ticker from when to when: a company under one ticker is one row, a reused ticker several.
-- grain: symbol, valid_from | valid_from (included) to valid_to (not included); valid_to: null while it trades
-- series: the symbol under which its bars are stored, those before a rename under the newest ticker; null: none are
-- company: the newest ticker of the company, the same in all its listings
-- began_by: listing or name_change, from predecessor | valid_from: of a listing, the first stored bar
-- ended_by: name_change, a kind of merger, redemption, worthless_removal, reorganization, delisting (a person's word,
--   `alchemiser-duck symbols ended`), reused (the vendor gave the ticker to another company); successor: what shares
--   became, if anything
-- lens: since and as_of narrow the bars and actions that are known
-- allows look-ahead: it knows how each listing ends
create or replace view listings as

    with recursive

    facts as (

        select
            symbol,
            type,
            ex_date,
            nullif(new_symbol, symbol) as new_symbol,
            cusip,
            new_cusip

        from corporate_actions

        where override is distinct from 'drop'
            and withdrawn_at is null
            and not coalesce(is_announced, false)

    ),

    renames as (

        select *

        from facts

        where type = 'name_change'
            and new_symbol is not null  -- one to itself ends nothing

    ),

    stored as (

        select
            symbol as series,
            coalesce(nullif(regexp_extract(symbol, '^(.+)-[0-9]{6}$', 1), ''), symbol) as ticker,
            min(date) as first_date,
            max(date) as last_date

        from bars_raw

        group by symbol

    ),

    endings as (

        select
            symbol,
            ex_date as valid_to,
            null::varchar as former_series,
            arg_max(type, type) as ended_by,
            arg_max(new_symbol, type) as successor,
            arg_max(cusip, type) as cusip

        from facts

        where type in (
                'cash_merger', 'stock_merger', 'stock_and_cash_merger', 'redemption', 'worthless_removal',
                'reorganization', 'delisting'
            )
            or (type = 'name_change' and new_symbol is not null)

        group by symbol, ex_date

        union all

        select
            ticker,
            last_date + 1,
            series,
            'reused',
            null,
            null

        from stored

        where series <> ticker

    ),

    ended as (

        select
            *,
            coalesce(lag(valid_to) over endings_in_order, date '0001-01-01') as not_before

        from endings

        window endings_in_order as (partition by symbol order by valid_to)

    ),

    -- what trades: it has bars after its last end, or a rename made it
    trading as (

        select
            tickers.symbol,
            coalesce(max(ended.valid_to), date '0001-01-01') as not_before

        from (

            select series as symbol from stored where series = ticker

            union

            select new_symbol from renames

        ) as tickers

        left join ended using (symbol)

        group by tickers.symbol

    ),

    periods as (

        select
            symbol,
            not_before,
            valid_to,
            former_series,
            ended_by,
            successor,
            cusip

        from ended

        union all

        select
            symbol,
            not_before,
            null,
            null,
            null,
            null,
            null

        from trading

        where exists (
                select 1

                from stored

                where stored.series = trading.symbol
                    and stored.last_date > trading.not_before
            )
            or exists (
                select 1

                from renames

                where renames.new_symbol = trading.symbol
                    and renames.ex_date > trading.not_before
            )

    ),

    begun as (

        select
            periods.symbol,
            periods.not_before,
            max(renames.ex_date) as renamed_on,
            arg_max(renames.symbol, renames.ex_date) as predecessor,
            arg_max(renames.new_cusip, renames.ex_date) as new_cusip

        from periods

        join renames
            on periods.symbol = renames.new_symbol
            and renames.ex_date >= periods.not_before
            and renames.ex_date < coalesce(periods.valid_to, date '9999-12-31')

        group by periods.symbol, periods.not_before

    ),

    -- from rename to rename
    followed as (

        select
            symbol,
            not_before,
            symbol as ticker,
            valid_to as day,
            0 as renamings

        from periods

        union all

        select
            followed.symbol,
            followed.not_before,
            renames.new_symbol,
            coalesce(
                (
                    select min(later.ex_date)

                    from renames as later

                    where later.symbol = renames.new_symbol
                        and later.ex_date > renames.ex_date
                ),
                date '9999-12-31'
            ),
            followed.renamings + 1

        from followed

        join renames
            on followed.ticker = renames.symbol
            and followed.day = renames.ex_date

        where followed.renamings < 20

    ),

    companies as (

        select
            followed.symbol,
            followed.not_before,
            arg_max(followed.ticker, followed.renamings) as company,
            arg_max(stored.series, followed.renamings) as series,
            arg_max(stored.first_date, followed.renamings) as first_date

        from followed

        left join stored
            on followed.ticker = stored.series

        group by followed.symbol, followed.not_before

    )

    select
        periods.symbol,
        coalesce(periods.former_series, companies.series) as series,
        coalesce(periods.former_series, companies.company) as company,
        coalesce(periods.cusip, begun.new_cusip) as cusip,
        coalesce(begun.renamed_on, former.first_date, companies.first_date) as valid_from,
        periods.valid_to,
        case when begun.renamed_on is null then 'listing' else 'name_change' end as began_by,
        begun.predecessor,
        periods.ended_by,
        periods.successor

    from periods

    left join begun
        on periods.symbol = begun.symbol
        and periods.not_before = begun.not_before

    left join companies
        on periods.symbol = companies.symbol
        and periods.not_before = companies.not_before

    left join stored as former
        on periods.former_series = former.series

    where periods.valid_to is null
        or coalesce(periods.former_series, companies.series, begun.predecessor) is not null;

comment on view listings is 'Who had which ticker from when to when, why it began and ended, and what it became.';
