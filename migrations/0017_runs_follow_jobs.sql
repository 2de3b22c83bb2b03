-- A run goes where its job goes, however that ends: retried, cancelled while it waited, failed after stalls, expired.

-- work: what it does; of a retry, the job_type of what it repeats. dedupe_key: at most one open job has it (O31).
-- told: the final status that listeners have heard of.
ALTER TABLE runs
  ADD COLUMN work text,
  ADD COLUMN dedupe_key text,
  ADD COLUMN priority smallint,
  ADD COLUMN scheduled_at timestamptz,
  ADD COLUMN told text;

-- fence: of the attempt that works on it; only its bearer may say how it ended. taken_from: the step of an earlier run
-- whose output this one has (a retry pays for nothing twice).
ALTER TABLE run_steps
  ADD COLUMN fence bigint,
  ADD COLUMN taken_from uuid;

CREATE INDEX runs_untold ON runs (id) WHERE status IN ('completed', 'failed', 'cancelled') AND told IS DISTINCT FROM status;

-- jobs -> runs -> run_steps is the order of locks; whoever writes steps holds their run.
CREATE FUNCTION follow_run_job() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  run runs%ROWTYPE;
  next_status text;
  over boolean := NEW.state IN ('completed', 'failed', 'cancelled');
BEGIN
  SELECT * INTO run FROM runs WHERE id = NEW.id FOR UPDATE;
  IF NOT FOUND THEN
    RETURN NULL;
  END IF;

  -- The next statement sees what was decided while the lock was waited for.
  next_status := CASE NEW.state
    WHEN 'active' THEN 'running'
    WHEN 'failed' THEN 'failed'
    WHEN 'cancelled' THEN 'cancelled'
    WHEN 'completed' THEN CASE WHEN EXISTS (
      SELECT FROM actions a WHERE a.run_id = NEW.id AND a.status IN ('pending', 'approved', 'executing'))
      THEN 'awaiting_approval' ELSE 'completed' END
    ELSE 'queued'
  END;

  IF OLD.state IN ('failed', 'cancelled') AND NOT over THEN
    -- Somebody asked for another try: of what did not come to an end, and of nothing else.
    UPDATE run_steps SET status = 'waiting', attempts = 0, finished_at = NULL
    WHERE run_id = NEW.id AND status IN ('failed', 'refused', 'cancelled');
  END IF;
  IF NEW.state IN ('failed', 'cancelled') THEN
    UPDATE run_steps SET
      status = CASE WHEN NEW.state = 'failed' AND status = 'running' THEN 'failed' ELSE 'cancelled' END,
      error = coalesce(error, NEW.error), finished_at = clock_timestamp()
    WHERE run_id = NEW.id AND status IN ('waiting', 'running');
  END IF;
  IF NEW.state = 'cancelled' THEN
    UPDATE actions SET status = 'rejected', reason = 'its run was cancelled', decided_at = clock_timestamp()
    WHERE run_id = NEW.id AND status IN ('pending', 'approved');
  END IF;

  UPDATE runs SET
    status = next_status,
    started_at = CASE WHEN NEW.state = 'active' THEN coalesce(run.started_at, NEW.claimed_at)
                      WHEN OLD.state IN ('failed', 'cancelled') THEN NULL ELSE run.started_at END,
    finished_at = CASE WHEN next_status IN ('completed', 'failed', 'cancelled') THEN clock_timestamp() END,
    result = CASE WHEN NEW.state = 'completed' THEN NEW.result WHEN over THEN run.result END,
    error = CASE WHEN NEW.state = 'completed' THEN NEW.result ->> 'error' ELSE NEW.error END,
    told = CASE WHEN over THEN run.told END
  WHERE id = NEW.id;

  IF over AND run.dedupe_key IS NOT NULL THEN
    -- The one that waits for this one's end takes its key, and is due.
    BEGIN
      UPDATE jobs SET dedupe_key = run.dedupe_key, run_at = least(run_at, clock_timestamp())
      WHERE queue = NEW.queue AND dedupe_key = run.dedupe_key || ':next' AND state IN ('waiting', 'delayed');
    EXCEPTION WHEN unique_violation THEN
      NULL;  -- another one has begun meanwhile: it waits for that one's end
    END;
  END IF;
  RETURN NULL;
END $$;

CREATE TRIGGER runs_follow_jobs AFTER UPDATE OF state ON jobs FOR EACH ROW
  WHEN (NEW.task = 'orchestration.run' AND OLD.state IS DISTINCT FROM NEW.state) EXECUTE FUNCTION follow_run_job();
