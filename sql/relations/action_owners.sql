-- action_owners: the stored series whose prices each action changes, whatever ticker the vendor filed it under.
-- grain: id | actions: a relation of the shape of corporate_actions
-- The vendor shows a renamed company's bars under its new ticker and files its actions under the one of the day: they are
-- followed from rename to rename, to the last ticker that has bars. What is filed under the new ticker before the rename,
-- with another CUSIP, is of a former owner and of nobody's bars: null.
create or replace macro action_owners(actions := 'corporate_actions') as table (

    with recursive

    renames as (

        select
            symbol as old_symbol,
            new_symbol,
            ex_date as renamed_on,
            cusip,
            new_cusip

        from query_table(actions)

        where type = 'name_change'
            and symbol <> new_symbol  -- a rename to itself changes the CUSIP or nothing
            and override is distinct from 'drop'
            and withdrawn_at is null
            and not coalesce(is_announced, false)

    ),

    tickers as (

        select
            id,
            symbol,
            ex_date as day,
            0 as renamings

        from query_table(actions)

        where symbol in (select old_symbol from renames)
            and type <> 'name_change'

        union all

        select
            tickers.id,
            arg_min(renames.new_symbol, renames.renamed_on) as symbol,
            min(renames.renamed_on) as day,
            any_value(tickers.renamings) + 1 as renamings

        from tickers

        join renames
            on tickers.symbol = renames.old_symbol
            and (renames.renamed_on > tickers.day or (renames.renamed_on = tickers.day and tickers.renamings = 0))

        where tickers.renamings < 20

        group by tickers.id

    ),

    stored as (

        select
            symbol,
            max(date) as last_date

        from bars_raw

        group by symbol

    ),

    -- RNA-202602: those who had the ticker RNA before
    former_owners as (

        select
            stated.id,
            arg_min(stored.symbol, stored.last_date) as symbol

        from query_table(actions) as stated

        join stored
            on regexp_extract(stored.symbol, '^(.+)-[0-9]{6}$', 1) = stated.symbol
            and stated.ex_date <= stored.last_date

        group by stated.id

    ),

    followed as (

        select
            tickers.id,
            arg_max(tickers.symbol, tickers.renamings) as symbol

        from tickers

        semi join stored using (symbol)

        group by tickers.id

    ),

    former as (

        select distinct stated.id

        from query_table(actions) as stated

        join renames
            on stated.symbol = renames.new_symbol
            and stated.ex_date < renames.renamed_on

        where stated.type <> 'name_change'
            and stated.cusip not in (renames.cusip, renames.new_cusip)
            -- unless it had the ticker before, and has it again
            and not exists (
                select 1

                from renames as earlier

                where earlier.old_symbol = stated.symbol
                    and earlier.renamed_on >= stated.ex_date
                    and earlier.renamed_on < renames.renamed_on
            )

    )

    select
        stated.id,
        case
            when former.id is not null then null
            else coalesce(followed.symbol, former_owners.symbol, stated.symbol)
        end as applies_to

    from query_table(actions) as stated

    left join followed using (id)

    left join former_owners using (id)

    left join former using (id)

);

comment on macro table action_owners is 'The stored series whose prices each corporate action changes.';
