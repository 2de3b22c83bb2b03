-- purpose: how many connections there may be for ordinary users, and how many there are; of other users' sessions an ordinary user sees the database and the user alone
SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int AS usable,
  (SELECT count(*)::int FROM pg_stat_activity
   WHERE coalesce(backend_type, 'client backend') = 'client backend' AND datid IS NOT NULL AND usesysid IS NOT NULL) AS used
