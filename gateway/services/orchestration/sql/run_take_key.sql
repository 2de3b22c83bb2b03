-- purpose: Let a run that waited or was scheduled take its key now; answers nothing while another open job has it.
-- $1 id uuid: the run
-- $2 key text: its key
UPDATE jobs j SET dedupe_key = $2
WHERE j.id = $1 AND (j.dedupe_key = $2 OR NOT EXISTS (
  SELECT FROM jobs o WHERE o.queue = j.queue AND o.dedupe_key = $2 AND o.state IN ('waiting', 'delayed', 'active')))
RETURNING j.id
