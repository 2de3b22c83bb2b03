-- purpose: Forget what had come when steps of long ago were cut: their outcome and their figures stay.
-- $1 age_s double precision: since their run ended, in seconds
-- $2 limit bigint: how many at once
UPDATE run_steps SET partial_text = NULL WHERE id = ANY (ARRAY(
  SELECT s.id FROM run_steps s JOIN runs r ON r.id = s.run_id
  WHERE s.partial_text IS NOT NULL AND r.status IN ('completed', 'failed', 'cancelled')
    AND r.finished_at < now() - $1 * interval '1 second'
  LIMIT $2))
