-- What the way out waits for: new records that somebody is still filling in, and a yes to a field as it is mapped now.

alter table mirror.outbox
    add column settles_at timestamptz,
    add column settle_began_at timestamptz,
    add column is_incomplete boolean not null default false;
create index outbox_settles_at on mirror.outbox (settles_at) where settles_at is not null;
comment on column mirror.outbox.settles_at is 'The record is new, or its entity''s edits wait: it is quiet when nobody has changed it by then. While this is set, no push takes the row; apply clears it, after it has looked once more whether the record is one that the side has.';
comment on column mirror.outbox.settle_began_at is 'Since when it waits for quiet: five minutes later it goes, quiet or not.';
comment on column mirror.outbox.is_incomplete is 'The record has no value yet, or lacks some that the mapping requires: waits_for says which. It is not created before it has them.';

-- An approval is of what was shown: places, transformation, policy and direction, and not of a name.
alter table mirror.approval add column covers jsonb;
comment on column mirror.approval.covers is '{"airtable": place, "airtable_id": id, "directus": place, "rule": text}: what the mapping said of the field when it was accepted. Where it says something else by now, the approval does not hold. Null: accepted before this column was there; the next run takes it as a yes to what the mapping says then.';

create table mirror.field_place (
    entity_no smallint not null,
    field text not null,
    side text not null,
    place text not null,
    side_id text,
    constraint field_place_pkey primary key (entity_no, field, side)
);
comment on table mirror.field_place is 'Where a field''s values were last read on a side, which is what the rows of mirror.shadow are about. A field that the mapping points elsewhere has no common past with what is there.';
comment on column mirror.field_place.entity_no is 'mirror.entity.';
comment on column mirror.field_place.field is 'The field''s name in the mapping; *: the records'' table.';
comment on column mirror.field_place.side is 'airtable or directus.';
comment on column mirror.field_place.place is 'The place as the mapping names it: base/table/field, or schema.table.column.';
comment on column mirror.field_place.side_id is 'The side''s own id of it (fld…, tbl…), which outlives a renaming; null: not known, or it has none.';
comment on column mirror.shadow.value is 'The value read last in that side''s own log; {"#unread": true}: not read yet at the place that the mapping names now.';
