-- Projects and their way through the stages. A stage lasts from the transition into it to the next one; what was there
-- before the first transition that the journal knows counts from the day of the application.

create or replace view report.stage_visit with (security_invoker) as
select v.project_id, v.stage_code, s.label_fr as stage_fr, s.label_en as stage_en, s.ordinal as stage_ordinal, s.kind as stage_kind,
       v.entered_at, v.left_at, v.next_code,
       round(extract(epoch from coalesce(v.left_at, now()) - v.entered_at) / 86400, 1)::numeric(10,1) as days,
       v.side, v.author
from (
    select t.project_id, t.to_code as stage_code, t.occurred_at as entered_at,
           lead(t.occurred_at) over w as left_at, lead(t.to_code) over w as next_code, t.side, t.author
    from canon.stage_transition t
    window w as (partition by t.project_id order by t.stage_transition_id)
    union all
    -- The stage that the first transition left.
    select f.project_id, f.from_code, p.submitted_on::timestamptz, f.occurred_at, f.to_code, null, null
    from (
        select distinct on (t.project_id) t.project_id, t.from_code, t.to_code, t.occurred_at
        from canon.stage_transition t order by t.project_id, t.stage_transition_id
    ) f
    join canon.project p on p.id = f.project_id
    where f.from_code is not null and p.submitted_on <= f.occurred_at
    union all
    -- Those that never moved.
    select p.id, p.stage_code, p.submitted_on::timestamptz, null, null, null, null
    from canon.project p
    where p.deleted_at is null and p.stage_code is not null and p.submitted_on is not null
      and not exists (select from canon.stage_transition t where t.project_id = p.id)
) v
join canon.stage s on s.code = v.stage_code;
comment on view report.stage_visit is 'A row a stay of a project in a stage: from when, until when (empty: still there), for how many days.';

create or replace view report.deal_flow_board with (security_invoker) as
select p.id as project_id, p.name as project, p.startup_id, u.name as startup, p.stage_code, s.label_fr as stage_fr, s.label_en as stage_en,
       s.ordinal as stage_ordinal, s.kind as stage_kind, coalesce(v.entered_at, p.submitted_on) as in_stage_since,
       (current_date - coalesce(v.entered_at, p.submitted_on)::date)::integer as days_in_stage, p.submitted_on,
       (current_date - p.submitted_on)::integer as days_since_submission,
       p.referent_id, nullif(concat_ws(' ', m.first_name, m.last_name), '') as referent, p.source_code, o.label_fr as source_fr, o.label_en as source_en,
       p.sector_code, c.label_fr as sector_fr, c.label_en as sector_en, p.region, p.amount_sought, p.pre_money_asked, p.currency,
       coalesce(i.interested_count, 0)::integer as interested_count, p.last_contact_at,
       (current_date - p.last_contact_at::date)::integer as days_since_contact
from canon.project p
left join canon.stage s on s.code = p.stage_code
left join canon.startup u on u.id = p.startup_id
left join canon.member m on m.id = p.referent_id
left join canon.project_source o on o.code = p.source_code
left join canon.sector c on c.code = p.sector_code
left join (
    select t.project_id, max(t.occurred_at) as entered_at from canon.stage_transition t group by t.project_id
) v on v.project_id = p.id
left join (
    select x.project_id, count(*) as interested_count from canon.project_interest x group by x.project_id
) i on i.project_id = p.id
where p.deleted_at is null;
comment on view report.deal_flow_board is 'A row a project: where it stands, since when, who looks after it, what it asks for.';

create or replace view report.stage_time with (security_invoker) as
select s.code as stage_code, s.label_fr as stage_fr, s.label_en as stage_en, s.ordinal as stage_ordinal, s.kind as stage_kind,
       (count(v.project_id) filter (where v.left_at is null))::integer as here_count,
       (count(v.project_id) filter (where v.left_at is not null))::integer as left_count,
       (avg(v.days) filter (where v.left_at is not null))::numeric(10,1) as days_mean,
       (percentile_cont(0.5) within group (order by v.days) filter (where v.left_at is not null))::numeric(10,1) as days_median,
       (percentile_cont(0.9) within group (order by v.days) filter (where v.left_at is not null))::numeric(10,1) as days_p90,
       (max(v.days) filter (where v.left_at is null))::numeric(10,1) as days_longest_here
from canon.stage s
left join report.stage_visit v on v.stage_code = s.code
group by s.code, s.label_fr, s.label_en, s.ordinal, s.kind;
comment on view report.stage_time is 'A row a stage: how many projects are there, and how long those that left had stayed.';

create or replace view report.deal_flow_funnel with (security_invoker) as
with reached as (
    select p.id, greatest(h.ordinal, max(f.ordinal), max(o.ordinal)) as ordinal
    from canon.project p
    left join canon.stage h on h.code = p.stage_code and h.kind in ('open', 'won')
    left join canon.stage_transition t on t.project_id = p.id
    left join canon.stage f on f.code = t.from_code and f.kind in ('open', 'won')
    left join canon.stage o on o.code = t.to_code and o.kind in ('open', 'won')
    where p.deleted_at is null
    group by p.id, h.ordinal
),
here as (
    select s.code, s.label_fr, s.label_en, s.ordinal, coalesce(r.count, 0) as count
    from canon.stage s
    left join (select ordinal, count(*) as count from reached group by ordinal) r on r.ordinal = s.ordinal
    where s.kind in ('open', 'won')
),
funnel as (
    select h.*, sum(h.count) over (order by h.ordinal desc) as reached_count from here h
)
select f.code as stage_code, f.label_fr as stage_fr, f.label_en as stage_en, f.ordinal as stage_ordinal, f.reached_count::integer as reached_count,
       (f.reached_count / nullif(a.count, 0))::numeric(9,6) as share_of_submitted,
       (f.reached_count / nullif(lag(f.reached_count) over (order by f.ordinal), 0))::numeric(9,6) as share_of_stage_before
from funnel f
cross join (select count(*)::numeric as count from canon.project p where p.deleted_at is null) a;
comment on view report.deal_flow_funnel is 'A row a stage: how many projects have come that far or farther, as a share of all and of those of the stage before.';

create or replace view report.deal_flow_conversion with (security_invoker) as
select d.dimension, d.code, d.label_fr, d.label_en, count(*)::integer as project_count,
       (count(*) filter (where s.kind = 'open'))::integer as open_count, (count(*) filter (where s.kind = 'won'))::integer as funded_count,
       (count(*) filter (where s.kind = 'lost'))::integer as lost_count, (count(*) filter (where s.kind = 'parked'))::integer as parked_count,
       (count(*) filter (where s.kind = 'won') / nullif(count(*) filter (where s.kind in ('won', 'lost')), 0)::numeric)::numeric(9,6) as funded_share_of_decided,
       p.currency, sum(p.amount_sought)::numeric(18,2) as amount_sought
from canon.project p
left join canon.stage s on s.code = p.stage_code
left join canon.project_source o on o.code = p.source_code
left join canon.sector c on c.code = p.sector_code
cross join lateral (values
    ('year', extract(year from p.submitted_on)::text, extract(year from p.submitted_on)::text, extract(year from p.submitted_on)::text),
    ('source', p.source_code, o.label_fr, o.label_en),
    ('sector', p.sector_code, c.label_fr, c.label_en),
    ('region', p.region, p.region, p.region)
) d (dimension, code, label_fr, label_en)
where p.deleted_at is null
group by d.dimension, d.code, d.label_fr, d.label_en, p.currency;
comment on view report.deal_flow_conversion is 'What became of the projects by year of application, source, sector and region: a row each; an empty code is for projects that do not say.';
