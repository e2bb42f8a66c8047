-- What was filled in since an alert was raised: for a day, and until somebody has seen it.
update mirror.alert set record_name = $3, before = $4, after = $5, text_fr = $6, text_en = $7
where rule = $1 and record_id = $2 and after ->> 'kind_code' = $5::jsonb ->> 'kind_code'
  and seen_at is null and raised_at > now() - interval '1 day'
