-- purpose: A page stands as it was kept: it is as new as this moment.
-- $1 key bytea: the page
UPDATE github_pages SET fetched_at = now() WHERE key = $1;
