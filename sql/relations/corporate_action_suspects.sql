-- corporate_action_suspects: actions and price moves that do not fit each other, until a person has settled them.
-- grain: symbol, date, suspicion, id | symbol: of the stored bars | id: of the action, null where one seems to be missing
-- is_question: prices may well have moved so; the others are likely to be wrong
-- split ratio: what is left of the overnight move after the actions of its day is a factor of more than 1.2, or more than
--   the move itself by 1.05: prices would be smoother without the split, or with another one
-- missing split: no split is stated, and what is left is near 3:2, 2:1, 5:2, 3:1 … or its inverse
-- large move: a factor of more than 1.3 is left on a day without a split: a missing dividend, or news
-- two dividends: regular ones of one day that differ by more than a tenth: both are applied, one may correct the other
-- conflict: two versions of one split or dividend stand, one counts | absurd dividend: not below the close; not applied
-- large dividend: above 30 % of the close | announced: its day has come, and the vendor has not completed it
-- not derived: the effect is unknown, and not applied
-- `alchemiser-duck actions accept`, `add`, `override` settle them | allows look-ahead: it knows the bars after each action
create or replace view corporate_action_suspects as

    with

    moves as (

        select
            symbol,
            date,
            open,
            lag(close) over bars_in_order as previous_close

        from bars_raw

        window bars_in_order as (partition by symbol order by timestamp)

    ),

    applied as (

        select
            applies_to as symbol,
            ex_date,
            min(id) as id,
            arg_min(id, type in ('cash_dividend', 'spin_off')) as split_id,
            exp(sum(ln(price_factor))) as price_factor,
            bool_or(type not in ('cash_dividend', 'spin_off')) as has_split

        from corporate_actions

        where price_factor is not null

        group by applies_to, ex_date

    ),

    jumps as (

        select
            moves.symbol,
            moves.date,
            applied.id,
            applied.split_id,
            coalesce(applied.has_split, false) as has_split,
            coalesce(applied.price_factor, 1) as price_factor,
            moves.open / moves.previous_close as move,
            moves.open / moves.previous_close / coalesce(applied.price_factor, 1) as left_over

        from moves

        left join applied
            on moves.symbol = applied.symbol
            and moves.date = applied.ex_date

        where moves.previous_close > 0
            and moves.open > 0
            and (applied.id is not null or abs(ln(moves.open / moves.previous_close)) > ln(1.3))

    ),

    sized as (

        select
            *,
            greatest(left_over, 1 / left_over) as size,
            size >= 1.45 and abs(size / (round(2 * size) / 2) - 1) < case when size < 1.8 then 0.03 else 0.045 end
            as is_near_a_split

        from jumps

    ),

    stored as (

        select
            symbol,
            min(date) as first_date,
            max(date) as last_date

        from bars_raw

        group by symbol

    ),

    due as (

        select
            corporate_actions.*

        from corporate_actions

        join stored
            on corporate_actions.applies_to = stored.symbol
            -- an action before the first bar changes no bar
            and corporate_actions.ex_date > stored.first_date
            and corporate_actions.ex_date <= stored.last_date

        where type <> 'accepted_move'

    ),

    suspects as (

        select
            symbol,
            date,
            split_id as id,
            'split ratio' as suspicion,
            false as is_question,
            printf('prices moved by a factor of %.4f overnight, the actions say %.4f', move, price_factor) as detail

        from sized

        where has_split
            and (
                abs(ln(left_over)) > ln(1.2)
                or abs(ln(left_over)) > abs(ln(move)) + ln(1.05)
            )

        union all

        select
            symbol,
            date,
            id,
            'missing split' as suspicion,
            false as is_question,
            printf('prices moved by a factor of %.4f overnight, and no split says so', left_over) as detail

        from sized

        where not has_split
            and is_near_a_split

        union all

        select
            symbol,
            date,
            id,
            'large move' as suspicion,
            true as is_question,
            printf('prices moved by a factor of %.4f overnight, and no action says why', left_over) as detail

        from sized

        where not has_split
            and abs(ln(left_over)) > ln(1.3)
            and not is_near_a_split

        union all

        select
            applies_to as symbol,
            ex_date as date,
            id,
            case status
                when 'superseded' then 'conflict'
                when 'duplicate' then 'duplicate'
                when 'absurd' then 'absurd dividend'
                when 'announced' then 'announced'
                else 'not derived'
            end as suspicion,
            status = 'duplicate' as is_question,
            case status
                when 'superseded' then 'another version of it stands, which is the one that counts'
                when 'duplicate' then 'the same action is there under another id: it is applied once'
                when 'absurd' then printf('%.4f a share after a close of %.4f: it is not applied', cash_amount, previous_close)
                when 'announced' then 'its day has come, and the vendor has not completed it: it is not applied'
                else 'its effect on prices cannot be derived'
            end as detail

        from due

        where status in ('superseded', 'duplicate', 'absurd', 'announced', 'unknown')
            or (type = 'rights_distribution' and status = 'none')

        union all

        select
            applies_to as symbol,
            ex_date as date,
            id,
            'large dividend' as suspicion,
            false as is_question,
            printf('%.4f a share after a close of %.4f', cash_amount, previous_close) as detail

        from due

        where type = 'cash_dividend'
            and status = 'applied'
            and cash_amount > 0.3 * previous_close

        union all

        select
            applies_to as symbol,
            ex_date as date,
            max(id) as id,
            'two dividends' as suspicion,
            true as is_question,
            printf('%d regular dividends are applied, %.4f a share together', count(*), sum(cash_amount)) as detail

        from due

        where type = 'cash_dividend'
            and status = 'applied'
            and not coalesce(special, false)

        group by applies_to, ex_date

        having count(*) > 1

    ),

    settled as (

        select
            applies_to as symbol,
            ex_date as date,
            id,
            type

        from corporate_actions

        where accepted_reason is not null

    ),

    corporate_action_suspects as (

        select *

        from suspects

        where not exists (
                select 1

                from settled

                where settled.symbol = suspects.symbol
                    and settled.date = suspects.date
                    -- who accepts a move accepts no action that comes later
                    and (settled.id = suspects.id or (settled.type = 'accepted_move' and suspects.id is null))
            )

    )

    select
        symbol,
        date,
        id,
        suspicion,
        detail,
        is_question

    from corporate_action_suspects;

comment on view corporate_action_suspects is 'Corporate actions and overnight moves that do not fit each other, unsettled.';
