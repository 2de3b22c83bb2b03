-- purpose: how many jobs replicas that fell silent still hold; their leases end soon
-- $1 workers text[]: ids of the replicas
SELECT worker, count(*) AS n FROM jobs WHERE state = 'active' AND worker = ANY ($1::text[]) GROUP BY worker
