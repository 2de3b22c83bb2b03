-- purpose: Drop pages of GitHub that nobody confirmed for long.
-- $1 age_s double precision: since then, in seconds
-- $2 limit bigint: how many at once
DELETE FROM github_pages WHERE key IN (
  SELECT key FROM github_pages WHERE fetched_at < now() - $1 * interval '1 second' LIMIT $2)
