-- purpose: Write down why a signed delivery started no run.
-- $1 id uuid: the trigger
-- $2 reason text: a sentence
UPDATE webhook_triggers SET last_at = now(), skipped_at = now(), skip_reason = $2 WHERE id = $1
