insert into mirror.capture_status (log, side, state, words, position, lag_bytes, lag_ms, last_change_at,
                                   retained_bytes, retained_bytes_max, wal_status)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
on conflict (log) do update
set state = excluded.state, words = excluded.words, position = excluded.position, lag_bytes = excluded.lag_bytes,
    lag_ms = excluded.lag_ms, last_change_at = coalesce(excluded.last_change_at, capture_status.last_change_at),
    retained_bytes = excluded.retained_bytes, retained_bytes_max = excluded.retained_bytes_max,
    wal_status = excluded.wal_status, reported_at = now()
