-- purpose: Drop pages that nobody confirmed for long, and the oldest ones beyond the bound of all together.
-- $1 kept_s float8: seconds
-- $2 most_bytes int8: of all pages
-- $3 limit int8: most rows at once
DELETE FROM github_pages WHERE key = ANY (ARRAY(
  SELECT aged.key FROM (
    SELECT key, fetched_at, sum(bytes) OVER (ORDER BY fetched_at DESC, key) AS bytes_so_far FROM github_pages
  ) AS aged
  WHERE aged.fetched_at < now() - make_interval(secs => $1) OR aged.bytes_so_far > $2
  LIMIT $3));
