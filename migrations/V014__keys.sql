-- Junction tables with columns of their own (a role, a rank, since when): what they hold is kept with the row, and after
-- it, so that an element that leaves a set and returns has them again.

alter table mirror.element add column columns jsonb;
comment on column mirror.element.columns is 'The row''s columns to which no field is mapped, as the side takes them; empty where it has none, or was last read before this column was there.';

create table mirror.element_left (
    side text not null,
    entity_no smallint not null,
    field text not null,
    record_id uuid not null,
    element text not null,
    columns jsonb not null,
    left_at timestamptz not null default now(),
    constraint element_left_pkey primary key (record_id, entity_no, side, field, element)
);
comment on table mirror.element_left is 'Columns of junction rows that are gone or were changed, the last ones of each element of a set: pushed with it when it returns. Kept for 400 days.';
comment on column mirror.element_left.side is 'The side.';
comment on column mirror.element_left.entity_no is 'mirror.entity of the set''s owner.';
comment on column mirror.element_left.field is 'The set.';
comment on column mirror.element_left.record_id is 'Canonical id of the set''s owner.';
comment on column mirror.element_left.element is 'Code, or canonical id of the linked record.';
comment on column mirror.element_left.columns is 'Column → value, as the side takes them.';
comment on column mirror.element_left.left_at is 'When the row left, or was changed.';
