-- purpose: A page as it was last read, whether it may be used unasked, and how long its lane must rest.
-- $1 key bytea: the page
-- $2 lane text: whose limit a new request would count against
-- $3 age_s float8: how old it may be, in seconds
SELECT p.etag, p.next, p.body, p.fetched_at > now() - make_interval(secs => $3) AS fresh,
  coalesce(greatest(extract(epoch FROM l.rests_until - now()), 0), 0)::float8 AS rest_s
FROM (SELECT 1) AS one
LEFT JOIN github_pages p ON p.key = $1
LEFT JOIN github_lanes l ON l.lane = $2;
