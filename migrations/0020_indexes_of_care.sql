-- migrate: no-transaction
-- What retention looks for, by age.
CREATE INDEX CONCURRENTLY IF NOT EXISTS emails_with_content ON emails (created_at) WHERE content_removed_at IS NULL;
CREATE INDEX CONCURRENTLY IF NOT EXISTS admin_audit_age ON admin_audit (at);
CREATE INDEX CONCURRENTLY IF NOT EXISTS conversations_age ON conversations (updated_at);
CREATE INDEX CONCURRENTLY IF NOT EXISTS runs_ended ON runs (finished_at) WHERE status IN ('completed', 'failed', 'cancelled');
-- What refers to a run, so that deleting one looks through no table.
CREATE INDEX CONCURRENTLY IF NOT EXISTS runs_retries ON runs (retry_of) WHERE retry_of IS NOT NULL;
CREATE INDEX CONCURRENTLY IF NOT EXISTS suggestions_of_run ON suggestions (run_id);
CREATE INDEX CONCURRENTLY IF NOT EXISTS tasks_of_run ON tasks (run_id) WHERE run_id IS NOT NULL;
