-- purpose: Hold one caller's idempotency key until this transaction ends; false when another transaction holds it.
-- $1 lock_key bigint: hash of caller and key
SELECT pg_try_advisory_xact_lock($1)
