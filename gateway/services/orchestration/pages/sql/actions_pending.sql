-- purpose: How many actions wait for a person, as far as that is counted.
-- $1 limit bigint: no more are counted
SELECT count(*) FROM (SELECT FROM actions WHERE status = 'pending' AND expires_at > now() LIMIT $1) AS waiting
