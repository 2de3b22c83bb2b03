-- E-mails. `emails.id` is the queueId of document 003. Its job carries ids only.

CREATE TABLE emails (
  id              uuid PRIMARY KEY,
  job_id          uuid NOT NULL,
  owner           text NOT NULL,              -- Principal.id of who sent it
  user_id         text,
  status          text NOT NULL,
  priority        smallint NOT NULL DEFAULT 0,
  from_address    text NOT NULL,              -- as it will stand in the header: 'Shop <no-reply@shop.example>'
  to_addresses    text[] NOT NULL,
  cc_addresses    text[] NOT NULL DEFAULT '{}',
  bcc_addresses   text[] NOT NULL DEFAULT '{}',
  reply_to        text[] NOT NULL DEFAULT '{}',
  subject         text NOT NULL,
  html            text,
  text            text,
  headers         jsonb NOT NULL DEFAULT '{}',
  tags            jsonb NOT NULL DEFAULT '[]',   -- [{"name": ..., "value": ...}]
  metadata        jsonb NOT NULL DEFAULT '{}',
  category        text,
  stream          text,
  reference_type  text,
  reference_id    text,
  simulate        text,                       -- 'delivered', 'bounced', 'complained', 'failed': no SMTP, this outcome
  resend_of       uuid,
  message_id      text NOT NULL,              -- given at acceptance, the same in every attempt
  smtp_reply      text,                       -- the server's words at acceptance
  uncertain       boolean NOT NULL DEFAULT false,  -- an attempt was cut after DATA: it may have arrived
  error           text,
  scheduled_at    timestamptz,
  created_at      timestamptz NOT NULL DEFAULT now(),
  updated_at      timestamptz NOT NULL DEFAULT now(),
  sent_at         timestamptz,
  CONSTRAINT emails_status_known CHECK (status IN ('scheduled', 'pending', 'processing', 'sent', 'delivered', 'bounced',
    'complained', 'failed', 'cancelled', 'suppressed', 'unknown'))
);
CREATE UNIQUE INDEX emails_job ON emails (job_id);
CREATE INDEX emails_newest ON emails (created_at DESC, id DESC);
CREATE INDEX emails_owner ON emails (owner, created_at DESC, id DESC);
CREATE INDEX emails_status ON emails (status, created_at DESC, id DESC);
CREATE INDEX emails_tags ON emails USING gin (tags jsonb_path_ops);
CREATE INDEX emails_reference ON emails (reference_type, reference_id) WHERE reference_id IS NOT NULL;

CREATE TABLE email_attachments (
  email_id      uuid NOT NULL REFERENCES emails ON DELETE CASCADE,
  position      smallint NOT NULL,
  filename      text NOT NULL,
  content_type  text NOT NULL,
  content_id    text,
  content       bytea NOT NULL,
  PRIMARY KEY (email_id, position)
);

-- Each recipient's outcome: a server may accept some and refuse others. Accepted ones are not sent to again.
CREATE TABLE email_recipients (
  email_id    uuid NOT NULL REFERENCES emails ON DELETE CASCADE,
  address     text NOT NULL,                  -- bare address, as in RCPT TO
  position    smallint NOT NULL,              -- order in the mail: to, then cc, then bcc
  kind        text NOT NULL,                  -- 'to', 'cc', 'bcc': where the address stands first
  status      text NOT NULL DEFAULT 'pending',  -- 'pending', 'accepted', 'rejected'
  code        smallint,
  reply       text,
  at          timestamptz,
  PRIMARY KEY (email_id, address)
);
CREATE INDEX email_recipients_address ON email_recipients (lower(address), email_id);

-- One row per attempt to send, with what the server said.
CREATE TABLE email_attempts (
  email_id     uuid NOT NULL REFERENCES emails ON DELETE CASCADE,
  fence        bigint NOT NULL,               -- of the job's claim
  attempt      integer NOT NULL,
  worker       text NOT NULL,
  transport    text NOT NULL,
  started_at   timestamptz NOT NULL DEFAULT now(),
  finished_at  timestamptz,
  outcome      text,                          -- NULL while running: 'sent', 'retry', 'rejected', 'paused', 'unknown'
  code         smallint,
  reply        text,
  PRIMARY KEY (email_id, fence)
);

CREATE TABLE email_events (
  id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  email_id  uuid NOT NULL REFERENCES emails ON DELETE CASCADE,
  type      text NOT NULL,                    -- 'queued', 'scheduled', 'processing', 'sent', 'failed', ...
  at        timestamptz NOT NULL DEFAULT clock_timestamp(),
  detail    jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX email_events_mail ON email_events (email_id, id);

-- A mail's status follows its job's state in the same transaction, whoever moves the job: the worker, rescue, an admin
-- (docs/decisions/0004-mail-status-follows-the-job.md). What the task itself learned (sent, rejected) it writes itself,
-- and a mail whose every recipient has an answer keeps it, wherever its job still goes (a crash before the job settled).
CREATE FUNCTION follow_email_job() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  next_status text;
  mail emails%ROWTYPE;
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
      WHEN mail.uncertain
        OR EXISTS (SELECT FROM email_attempts a WHERE a.email_id = mail.id AND a.outcome IS NULL) THEN 'unknown'
      ELSE 'failed' END
    ELSE 'cancelled'
  END;
  IF next_status = mail.status AND NEW.error IS NOT DISTINCT FROM mail.error AND NOT moved THEN
    RETURN NULL;
  END IF;
  UPDATE emails SET
    status = next_status,
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

CREATE TRIGGER emails_follow_jobs AFTER UPDATE OF state, run_at ON jobs
  FOR EACH ROW
  WHEN (NEW.task = 'email.send' AND (OLD.state IS DISTINCT FROM NEW.state OR OLD.run_at IS DISTINCT FROM NEW.run_at))
  EXECUTE FUNCTION follow_email_job();
