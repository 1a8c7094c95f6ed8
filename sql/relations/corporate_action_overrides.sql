-- corporate_action_overrides: actions whose vendor's word was replaced or dropped, with the reason.
-- grain: id
create or replace view corporate_action_overrides as

    select
        id,
        type,
        symbol,
        ex_date,
        override,
        override_values,
        override_reason,
        overridden_at,
        vendor_row

    from corporate_actions

    where override is not null;

comment on view corporate_action_overrides is 'Corporate actions that are dropped or replaced, with the reason.';
