-- migrate: no-transaction
CREATE INDEX CONCURRENTLY IF NOT EXISTS emails_resends ON emails (resend_of) WHERE resend_of IS NOT NULL;
