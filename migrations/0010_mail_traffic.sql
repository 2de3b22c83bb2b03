-- A mail's status follows its job, as in 0009, but once for each statement instead of once for each row: a batch of jobs
-- moves its mails in one go (docs/decisions/0004-mail-status-follows-the-job.md).

-- A job that changed its state or its time: how it was, and how it is.
CREATE TYPE email_job_move AS (
  id          uuid,
  state_was   text,
  run_at_was  timestamptz,
  state       text,
  run_at      timestamptz,
  error       text,
  attempts    integer,
  postponed   boolean   -- it waits as before, but until another time
);

CREATE FUNCTION follow_email_jobs() RETURNS trigger LANGUAGE plpgsql
-- Plans are made once for each connection, perhaps while the tables are empty: none may read all of a table.
SET enable_seqscan = off
-- Planning them for each statement would cost more than they do.
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
  moves email_job_move[];
BEGIN
  -- Old and new rows are brought together by grouping: a join that was planned for few rows is quadratic.
  SELECT array_agg((id, state_was, run_at_was, state, run_at, error, attempts,
    state_was IN ('waiting', 'delayed') AND state IN ('waiting', 'delayed') AND run_at_was <> run_at)::email_job_move)
  INTO moves
  FROM (
    SELECT id, max(state_was) AS state_was, max(run_at_was) AS run_at_was, max(state) AS state, max(run_at) AS run_at,
      max(error) AS error, max(attempts) AS attempts
    FROM (
      SELECT id, NULL AS state_was, NULL::timestamptz AS run_at_was, state, run_at, error, attempts FROM new_rows
      WHERE task = 'email.send'
      UNION ALL
      SELECT id, state, run_at, NULL, NULL, NULL, NULL FROM old_rows WHERE task = 'email.send'
    ) versions
    GROUP BY id
  ) jobs
  WHERE state_was <> state OR run_at_was <> run_at;
  IF moves IS NULL THEN
    RETURN NULL;
  END IF;

  -- First the locks, in one order for everybody; what is read below stays as it is then.
  PERFORM FROM emails WHERE job_id = ANY (ARRAY(SELECT id FROM unnest(moves))) ORDER BY id FOR NO KEY UPDATE;

  IF EXISTS (SELECT FROM unnest(moves) WHERE state_was IN ('failed', 'cancelled') AND state IN ('waiting', 'delayed')) THEN
    -- Somebody asked for another try: recipients that were refused get it too.
    UPDATE email_recipients SET status = 'pending'
    WHERE status = 'rejected' AND email_id = ANY (ARRAY(
      SELECT mail.id FROM unnest(moves) job JOIN emails mail ON mail.job_id = job.id
      WHERE job.state_was IN ('failed', 'cancelled') AND job.state IN ('waiting', 'delayed')));
  END IF;

  WITH found AS (
    SELECT job.*, mail.id AS mail_id, mail.status AS status_was, mail.uncertain, mail.sent_at,
      mail.uncertain OR job.state IN ('failed', 'cancelled')
        AND EXISTS (SELECT FROM email_attempts a WHERE a.email_id = mail.id AND a.outcome IS NULL) AS doubt
    FROM unnest(moves) job JOIN emails mail ON mail.job_id = job.id
  ), judged AS (
    SELECT *, CASE
      WHEN status_was IN ('sent', 'delivered', 'bounced', 'complained', 'suppressed')
        AND NOT EXISTS (SELECT FROM email_recipients r WHERE r.email_id = mail_id AND r.status = 'pending') THEN status_was
      WHEN state = 'waiting' THEN CASE WHEN uncertain THEN 'unknown' ELSE 'pending' END
      WHEN state = 'delayed' THEN CASE
        WHEN uncertain THEN 'unknown'
        WHEN state_was = 'active' THEN 'pending'  -- back-off, not somebody's wish
        ELSE 'scheduled' END
      WHEN state = 'active' THEN 'processing'
      WHEN state = 'completed' THEN 'sent'
      WHEN state = 'failed' THEN CASE
        WHEN sent_at IS NOT NULL THEN 'sent'
        WHEN doubt THEN 'unknown'
        ELSE 'failed' END
      ELSE 'cancelled'
    END AS status
    FROM found
  ), changed AS (
    UPDATE emails mail SET
      status = judged.status,
      uncertain = judged.doubt,
      error = CASE WHEN judged.state = 'completed' THEN mail.error ELSE judged.error END,
      scheduled_at = CASE WHEN judged.postponed THEN judged.run_at ELSE mail.scheduled_at END,
      updated_at = now(),
      sent_at = CASE WHEN judged.status = 'sent' THEN coalesce(mail.sent_at, now()) ELSE mail.sent_at END
    FROM judged
    WHERE mail.id = judged.mail_id AND (judged.status <> mail.status OR judged.doubt <> mail.uncertain
      OR judged.error IS DISTINCT FROM mail.error OR judged.postponed)
  )
  INSERT INTO email_events (email_id, type, detail)
  SELECT mail_id, 'rescheduled', jsonb_build_object('from', run_at_was, 'to', run_at) FROM judged WHERE postponed
  UNION ALL
  SELECT mail_id, CASE WHEN status = 'pending' THEN 'queued' ELSE status END,
    jsonb_strip_nulls(jsonb_build_object('attempt', attempts, 'error', error))
  FROM judged WHERE status <> status_was;
  RETURN NULL;
END $$;

-- Beside its old rows a statement's trigger may not name columns: one that moves no mail's job ends with the first question.
CREATE TRIGGER emails_follow_jobs_together AFTER UPDATE ON jobs
  REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION follow_email_jobs();
DROP TRIGGER emails_follow_jobs ON jobs;
DROP FUNCTION follow_email_job();
