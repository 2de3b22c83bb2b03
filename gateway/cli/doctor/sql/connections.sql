-- purpose: how many connections there may be for ordinary users, and how many there are
SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int AS usable,
  (SELECT count(*)::int FROM pg_stat_activity WHERE backend_type = 'client backend') AS used
