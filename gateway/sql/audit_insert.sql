-- purpose: write down one change that an administrator made
-- $1 actor text: Principal.id of who made it
-- $2 action text: the verb, as in 'queue.pause' or 'job.retry'
-- $3 subject text: queue name or job id
-- $4 detail jsonb: what was asked, as sent
-- $5 request_id text: the request's X-Request-Id, NULL outside a request
INSERT INTO admin_audit (actor, action, subject, detail, request_id) VALUES ($1, $2, $3, $4, $5)
