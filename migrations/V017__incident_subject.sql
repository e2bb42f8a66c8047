-- An incident is over when its subject is looked at again and found without it, or a day after it was last seen.

alter table mirror.incident add column subject text;
comment on column mirror.incident.subject is 'What is looked at again: the next look that does not find the incident closes it. Empty: it happened once. Either is closed a day after it was last seen.';
comment on column mirror.incident.seen_at is 'Last seen; a day after it the incident is closed.';
