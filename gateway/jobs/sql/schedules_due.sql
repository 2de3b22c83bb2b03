-- purpose: schedules that are due, or will be within the next second, soonest first, and the ledger's clock
-- $1 tasks text[]: those that this replica knows
-- $2 queues text[]: those that this replica knows
-- $3 limit bigint: how many at most
SELECT *, now() AS seen_at FROM schedules
WHERE enabled AND next_at <= now() + interval '1 second' AND task = ANY ($1::text[]) AND queue = ANY ($2::text[])
ORDER BY next_at LIMIT $3
