-- migrate: no-transaction
CREATE INDEX CONCURRENTLY IF NOT EXISTS emails_with_content ON emails (created_at) WHERE content_removed_at IS NULL;
