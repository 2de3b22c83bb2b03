-- A day is 24 hours of UTC, also where a session's own time zone has one of 23: a pooler may lose the sessions' setting.
ALTER FUNCTION sum_usage(boolean) SET timezone = 'UTC';
