-- purpose: what the server is, and what an operator should know of its state
SELECT current_setting('server_version') AS version, pg_is_in_recovery() AS standby, clock_timestamp() AS now,
  current_setting('fsync') AS fsync, current_setting('synchronous_commit') AS synchronous_commit,
  pg_has_role('pg_read_all_stats', 'USAGE') AS sees_all,
  (SELECT count(*) FROM pg_stat_activity
   WHERE datname = current_database() AND state LIKE 'idle in transaction%') AS idle,
  (SELECT extract(epoch FROM max(clock_timestamp() - state_change))::double precision FROM pg_stat_activity
   WHERE datname = current_database() AND state LIKE 'idle in transaction%') AS oldest_idle_s,
  ARRAY(SELECT c.relname::text FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE NOT i.indisvalid AND n.nspname = current_schema() ORDER BY 1) AS broken
