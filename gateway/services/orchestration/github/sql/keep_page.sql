-- purpose: Keep what GitHub answered now.
-- $1 key bytea: the page
-- $2 repository text: owner/name
-- $3 kind text: what it lists
-- $4 etag text: to ask with the next time
-- $5 next text: the request for the page after it
-- $6 body bytea: our JSON of it
INSERT INTO github_pages (key, repository, kind, etag, next, body, bytes, fetched_at)
VALUES ($1, $2, $3, $4, $5, $6::bytea, octet_length($6::bytea), now())
ON CONFLICT (key) DO UPDATE SET etag = excluded.etag, next = excluded.next, body = excluded.body,
  bytes = excluded.bytes, fetched_at = excluded.fetched_at;
