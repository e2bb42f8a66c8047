-- People, without their addresses; those are in report.member_contact, which only the delegate may read.

create or replace view report.member_directory with (security_invoker) as
select m.id as member_id, m.first_name, m.last_name, concat_ws(' ', m.first_name, m.last_name) as name,
       m.status_code, t.label_fr as status_fr, t.label_en as status_en,
       r.roles_fr, r.roles_en, m.joined_on, m.city, m.ticket_min, m.ticket_max, m.currency,
       coalesce(i.line_count, 0)::integer as line_count, i.first_signed_on, i.last_signed_on,
       coalesce(i.committed_12_months, 0)::numeric(18,2) as committed_12_months,
       coalesce(p.referent_count, 0)::integer as referent_count, coalesce(q.interest_count, 0)::integer as interest_count,
       (current_date - greatest(i.last_signed_on, m.joined_on))::integer as days_since_last_activity
from canon.member m
left join canon.member_status t on t.code = m.status_code
left join lateral (
    select string_agg(c.label_fr, ', ' order by c.ordinal) as roles_fr, string_agg(c.label_en, ', ' order by c.ordinal) as roles_en
    from canon.member_role x join canon.role c on c.code = x.role_code where x.member_id = m.id
) r on true
left join (
    select member_id, count(*) as line_count, min(signed_on) as first_signed_on, max(signed_on) as last_signed_on,
           sum(committed) filter (where signed_on > current_date - 365) as committed_12_months
    from canon.investment where deleted_at is null group by member_id
) i on i.member_id = m.id
left join (
    select referent_id, count(*) as referent_count from canon.project where deleted_at is null group by referent_id
) p on p.referent_id = m.id
left join (
    select x.member_id, count(*) as interest_count
    from canon.project_interest x join canon.project j on j.id = x.project_id and j.deleted_at is null group by x.member_id
) q on q.member_id = m.id
where m.deleted_at is null;
comment on view report.member_directory is 'A row a member: status, roles, and what he does: lines, projects looked after, interests; without contact data.';

create or replace view report.member_contact with (security_invoker) as
select m.id as member_id, m.first_name, m.last_name, concat_ws(' ', m.first_name, m.last_name) as name, m.email, m.phone,
       m.city, m.postcode, m.linkedin_url, coalesce(m.newsletter, false) as newsletter, m.status_code,
       t.label_fr as status_fr, t.label_en as status_en
from canon.member m
left join canon.member_status t on t.code = m.status_code
where m.deleted_at is null;
comment on view report.member_contact is 'A row a member: e-mail address, phone, town, and whether he wants the newsletter. For the delegate.';
