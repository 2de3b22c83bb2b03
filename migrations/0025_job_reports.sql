-- What attempts report of themselves while they run: how far they are, and lines of a log. Beside `jobs`, whose rows are
-- written at each claim and end: a job that reports nothing has nothing here.

CREATE TABLE job_reports (
  job_id       uuid NOT NULL,
  fence        bigint NOT NULL,                 -- the attempt's: no attempt writes into the row of another one
  attempt      integer NOT NULL,                -- as people count them
  percent      smallint,
  stage        text,
  progress_at  timestamptz,
  lines        integer NOT NULL DEFAULT 0,      -- how many it wrote; the newest of them are kept
  PRIMARY KEY (job_id, fence)
);

CREATE TABLE job_log_lines (
  job_id  uuid NOT NULL,
  fence   bigint NOT NULL,
  number  integer NOT NULL,                     -- from 1 in each attempt
  at      timestamptz NOT NULL,
  text    text NOT NULL,
  PRIMARY KEY (job_id, fence, number)
);

-- Reports go with their job, whichever statement deletes it. Not by a foreign key, which costs a statement for each job.
CREATE FUNCTION forget_job_reports() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM job_reports WHERE job_id = ANY (ARRAY(SELECT id FROM old_rows));
  IF FOUND THEN  -- lines never stand without their attempt
    DELETE FROM job_log_lines WHERE job_id = ANY (ARRAY(SELECT id FROM old_rows));
  END IF;
  RETURN NULL;
END $$;

CREATE FUNCTION forget_all_job_reports() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM job_log_lines;
  DELETE FROM job_reports;
  RETURN NULL;
END $$;

CREATE TRIGGER jobs_forget_reports AFTER DELETE ON jobs
  REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION forget_job_reports();
CREATE TRIGGER jobs_forget_all_reports AFTER TRUNCATE ON jobs
  FOR EACH STATEMENT EXECUTE FUNCTION forget_all_job_reports();
