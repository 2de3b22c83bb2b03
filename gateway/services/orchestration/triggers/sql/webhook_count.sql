-- purpose: Count a delivery that may start a run, in the ledger's minute; the trigger's deliveries go one after the other.
-- $1 id uuid: the trigger
UPDATE webhook_triggers SET
  last_at = now(),
  received = CASE WHEN minute = date_trunc('minute', clock_timestamp()) THEN received + 1 ELSE 1 END,
  minute = date_trunc('minute', clock_timestamp())
WHERE id = $1 AND enabled
RETURNING received, max_per_minute, extract(second FROM clock_timestamp())::double precision AS second
