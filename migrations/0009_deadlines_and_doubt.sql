-- Mails with a deadline, and mails in doubt.

-- Not started by then, the mail's job is cancelled (jobs.expires_at); kept here for those who ask.
ALTER TABLE emails ADD COLUMN expires_at timestamptz;

-- A mail whose last attempt never said how it ended (its process died) may be at the mail server, also when somebody
-- cancels it before the next attempt: it says so then (invariant C). As in 0003 otherwise.

CREATE OR REPLACE FUNCTION follow_email_job() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  next_status text;
  mail emails%ROWTYPE;
  doubt boolean;
  moved boolean := OLD.state IN ('waiting', 'delayed') AND NEW.state IN ('waiting', 'delayed') AND OLD.run_at <> NEW.run_at;
BEGIN
  SELECT * INTO mail FROM emails WHERE job_id = NEW.id FOR UPDATE;
  IF NOT FOUND THEN
    RETURN NULL;
  END IF;
  IF OLD.state IN ('failed', 'cancelled') AND NEW.state IN ('waiting', 'delayed') THEN
    -- Somebody asked for another try: recipients that were refused get it too.
    UPDATE email_recipients SET status = 'pending' WHERE email_id = mail.id AND status = 'rejected';
  END IF;
  doubt := mail.uncertain OR NEW.state IN ('failed', 'cancelled')
    AND EXISTS (SELECT FROM email_attempts a WHERE a.email_id = mail.id AND a.outcome IS NULL);
  next_status := CASE
    WHEN mail.status IN ('sent', 'delivered', 'bounced', 'complained', 'suppressed')
      AND NOT EXISTS (SELECT FROM email_recipients r WHERE r.email_id = mail.id AND r.status = 'pending') THEN mail.status
    WHEN NEW.state = 'waiting' THEN CASE WHEN mail.uncertain THEN 'unknown' ELSE 'pending' END
    WHEN NEW.state = 'delayed' THEN CASE
      WHEN mail.uncertain THEN 'unknown'
      WHEN OLD.state = 'active' THEN 'pending'  -- back-off, not somebody's wish
      ELSE 'scheduled' END
    WHEN NEW.state = 'active' THEN 'processing'
    WHEN NEW.state = 'completed' THEN 'sent'
    WHEN NEW.state = 'failed' THEN CASE
      WHEN mail.sent_at IS NOT NULL THEN 'sent'
      WHEN doubt THEN 'unknown'
      ELSE 'failed' END
    ELSE 'cancelled'
  END;
  IF next_status = mail.status AND doubt = mail.uncertain AND NEW.error IS NOT DISTINCT FROM mail.error
    AND NOT moved THEN
    RETURN NULL;
  END IF;
  UPDATE emails SET
    status = next_status,
    uncertain = doubt,
    error = CASE WHEN NEW.state = 'completed' THEN mail.error ELSE NEW.error END,
    scheduled_at = CASE WHEN moved THEN NEW.run_at ELSE mail.scheduled_at END,
    updated_at = now(),
    sent_at = CASE WHEN next_status = 'sent' THEN coalesce(mail.sent_at, now()) ELSE mail.sent_at END
  WHERE id = mail.id;
  IF moved THEN
    INSERT INTO email_events (email_id, type, detail)
    VALUES (mail.id, 'rescheduled', jsonb_build_object('from', OLD.run_at, 'to', NEW.run_at));
  END IF;
  IF next_status <> mail.status THEN
    INSERT INTO email_events (email_id, type, detail)
    VALUES (mail.id, CASE WHEN next_status = 'pending' THEN 'queued' ELSE next_status END,
            jsonb_strip_nulls(jsonb_build_object('attempt', NEW.attempts, 'error', NEW.error)));
  END IF;
  RETURN NULL;
END $$;
