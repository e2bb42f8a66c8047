-- Rows of a side that the mapping leaves out (`rows`, and accounts of Directus beyond members'), and people's reading
-- rights.

alter table mirror.absence add column is_outside boolean not null default false;
comment on column mirror.absence.is_outside is 'The side has the record, outside the rows that the mapping mirrors: nothing is written to it there.';

create table mirror.row_passage (
    row_passage_id bigint generated always as identity constraint row_passage_pkey primary key,
    entity_no smallint not null,
    record_id uuid not null,
    side text not null,
    has_left boolean not null,
    source_transaction_id bigint not null
);
create index row_passage_record_id on mirror.row_passage (record_id, entity_no);
comment on table mirror.row_passage is 'When a record left the rows of a side that the mapping mirrors, or came among them. A record that leaves is withdrawn as if the side had deleted it.';
comment on column mirror.row_passage.side is 'Whose rows.';
comment on column mirror.row_passage.has_left is 'Whether it left; else it came.';
comment on column mirror.row_passage.source_transaction_id is 'The transaction of the side that did it.';

create table mirror.mapped_column (
    table_name text not null,
    column_name text not null,
    is_personal boolean,
    constraint mapped_column_pkey primary key (table_name, column_name)
);
comment on table mirror.mapped_column is 'Canonical columns that the mapping names, as of the last start: the rights of the reporting roles follow from it.';
comment on column mirror.mapped_column.table_name is 'Table of the schema canon.';
comment on column mirror.mapped_column.is_personal is 'Whether the mapping calls it personal; null: it does not say.';
