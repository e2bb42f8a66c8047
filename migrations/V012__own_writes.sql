-- What our own writes bring about: parts of a write, and changes that only answer one.
alter table mirror.operation
    add column is_partial boolean not null default false,
    add column answer_count smallint not null default 0;
comment on column mirror.operation.is_partial is 'It goes in several requests, or a request that left a cell out may have been taken. A cell that the side''s log then shows empty, or as it was before, was not brought by that request: nobody has edited it.';
comment on column mirror.operation.answer_count is 'The side''s log showed, with the effect of this write, a change of the record that nobody made: its number in a row of such changes. 0: none, or a person has edited the record since.';
