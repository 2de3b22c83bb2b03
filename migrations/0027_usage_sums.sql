-- What agents cost in sums, so that a year of usage is read from its days and not from millions of steps.

-- A period that was summed: an hour, or a day (UTC) that is over. No moment is in two of them, so nothing counts twice.
CREATE TABLE usage_periods (
  starts_at  timestamptz PRIMARY KEY,
  ends_at    timestamptz NOT NULL,
  summed_at  timestamptz NOT NULL DEFAULT now(),
  CONSTRAINT usage_periods_apart EXCLUDE USING gist (tstzrange(starts_at, ends_at) WITH &&)
);

-- grain: what a row is of: 4 its project + 2 its agent + 1 its model; the others are NULL, and the row is of all of them.
-- A step without an agent or a model has NULL too. So whatever usage is grouped by, few rows are read.
-- runs: whose first step (of the agent, of the model) is in the period, so that they add up over any time.
-- uncounted: steps with tokens that cost nothing.
CREATE TABLE usage_sums (
  starts_at      timestamptz NOT NULL REFERENCES usage_periods ON DELETE CASCADE,
  grain          smallint NOT NULL,
  project_id     uuid REFERENCES projects,
  agent_slug     text,
  model          text,
  runs           bigint NOT NULL,
  steps          bigint NOT NULL,
  calls          bigint NOT NULL,
  input_tokens   bigint NOT NULL,
  output_tokens  bigint NOT NULL,
  cost_micros    bigint NOT NULL,
  uncounted      bigint NOT NULL,
  CONSTRAINT usage_sums_once UNIQUE NULLS NOT DISTINCT (starts_at, grain, project_id, agent_slug, model)
);
CREATE INDEX usage_sums_of_project ON usage_sums (project_id, grain, starts_at);

-- Hours whose steps changed since they were summed, one row for each change: it is there exactly for those who see the
-- change. What is read beside it is the steps themselves, and the sums of all other hours.
CREATE TABLE usage_marks (
  hour  timestamptz NOT NULL
);
CREATE INDEX usage_marks_hour ON usage_marks (hour);

-- position: of the step in its run; NULL: a version before this one pruned it.
ALTER TABLE pruned_steps ADD COLUMN position integer;
CREATE INDEX pruned_steps_of_run ON pruned_steps (run_id);

-- Steps that were begun: what usage is about. Those of a run are all in one table.
CREATE VIEW begun_steps AS
SELECT run_id, position, project_id, agent_slug, model, calls, input_tokens, output_tokens, cost_micros, started_at
FROM run_steps WHERE started_at IS NOT NULL
UNION ALL
SELECT run_id, coalesce(position, 0), project_id, agent_slug, model, calls, input_tokens, output_tokens, cost_micros,
  started_at
FROM pruned_steps;

-- A step that begins, or moves to another hour because it is tried again, may be its run's first: the hours of the
-- run's other steps change with it.
CREATE FUNCTION mark_usage() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    INSERT INTO usage_marks (hour)
    SELECT DISTINCT date_trunc('hour', s.started_at, 'UTC') FROM run_steps s
    WHERE s.started_at IS NOT NULL AND s.run_id IN (SELECT n.run_id FROM new_steps n WHERE n.started_at IS NOT NULL);
  ELSIF TG_OP = 'UPDATE' THEN
    WITH changed AS (
      SELECT o.run_id, o.started_at FROM old_steps o JOIN new_steps n USING (id)
      WHERE (o.started_at, o.agent_slug, o.model, o.calls, o.input_tokens, o.output_tokens, o.cost_micros)
        IS DISTINCT FROM (n.started_at, n.agent_slug, n.model, n.calls, n.input_tokens, n.output_tokens, n.cost_micros)
    )
    INSERT INTO usage_marks (hour)
    SELECT date_trunc('hour', c.started_at, 'UTC') FROM changed c WHERE c.started_at IS NOT NULL
    UNION
    SELECT date_trunc('hour', s.started_at, 'UTC') FROM run_steps s
    WHERE s.started_at IS NOT NULL AND s.run_id IN (SELECT c.run_id FROM changed c);
  ELSE
    INSERT INTO usage_marks (hour)
    SELECT DISTINCT date_trunc('hour', o.started_at, 'UTC') FROM old_steps o
    WHERE o.started_at IS NOT NULL AND NOT EXISTS (SELECT FROM pruned_steps p WHERE p.run_id = o.run_id);
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER run_steps_mark_new AFTER INSERT ON run_steps
  REFERENCING NEW TABLE AS new_steps FOR EACH STATEMENT EXECUTE FUNCTION mark_usage();
CREATE TRIGGER run_steps_mark_changed AFTER UPDATE ON run_steps
  REFERENCING OLD TABLE AS old_steps NEW TABLE AS new_steps FOR EACH STATEMENT EXECUTE FUNCTION mark_usage();
CREATE TRIGGER run_steps_mark_gone AFTER DELETE ON run_steps
  REFERENCING OLD TABLE AS old_steps FOR EACH STATEMENT EXECUTE FUNCTION mark_usage();

-- All that was spent before this: summed by the first run of the duty.
INSERT INTO usage_marks (hour)
SELECT generate_series(date_trunc('hour', min(started_at), 'UTC'), clock_timestamp(), interval '1 hour') FROM begun_steps;

-- Sum one period, the newest that is to be done, and answer the rows that it has now; NULL: nothing is to be done.
-- by_day false: an hour that is over and has a mark, or its day, once that is over for an hour. by_day true: a day that
-- is over and still is in hours.
-- The lock comes before all that is read: of two that sum at once, the second sees what the first did. The marks go
-- before the steps are read: a change between the two is in the sums and keeps its mark.
CREATE FUNCTION sum_usage(by_day boolean) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
  today timestamptz := date_trunc('day', now() - interval '1 hour', 'UTC');
  since timestamptz;
  until timestamptz;
  written integer;
BEGIN
  LOCK TABLE usage_periods IN SHARE ROW EXCLUSIVE MODE;
  IF by_day THEN
    SELECT max(p.starts_at) INTO since FROM usage_periods p
    WHERE p.ends_at - p.starts_at < interval '1 day' AND p.starts_at < today;
  ELSE
    SELECT max(m.hour) INTO since FROM usage_marks m WHERE m.hour < date_trunc('hour', now(), 'UTC');
  END IF;
  IF since IS NULL THEN
    RETURN NULL;
  END IF;
  until := since + interval '1 hour';
  IF since < today THEN
    since := date_trunc('day', since, 'UTC');
    until := since + interval '1 day';
  END IF;
  DELETE FROM usage_marks m WHERE m.hour >= since AND m.hour < until;
  DELETE FROM usage_periods p WHERE p.starts_at < until AND p.ends_at > since;
  INSERT INTO usage_periods (starts_at, ends_at) VALUES (since, until);
  INSERT INTO usage_sums
  SELECT since, 7 - grouping(s.project_id, s.agent_slug, s.model), s.project_id, s.agent_slug, s.model,
    CASE grouping(s.agent_slug, s.model)
      WHEN 0 THEN count(*) FILTER (WHERE f.of_both) WHEN 1 THEN count(*) FILTER (WHERE f.of_agent)
      WHEN 2 THEN count(*) FILTER (WHERE f.of_model) ELSE count(*) FILTER (WHERE f.of_run) END,
    count(*), sum(s.calls), sum(s.input_tokens), sum(s.output_tokens), sum(s.cost_micros),
    count(*) FILTER (WHERE s.cost_micros = 0 AND s.input_tokens + s.output_tokens > 0)
  FROM begun_steps s CROSS JOIN LATERAL (
    SELECT count(*) = 0 AS of_run,
      count(*) FILTER (WHERE b.agent_slug IS NOT DISTINCT FROM s.agent_slug) = 0 AS of_agent,
      count(*) FILTER (WHERE b.model IS NOT DISTINCT FROM s.model) = 0 AS of_model,
      count(*) FILTER (WHERE b.agent_slug IS NOT DISTINCT FROM s.agent_slug
        AND b.model IS NOT DISTINCT FROM s.model) = 0 AS of_both
    FROM begun_steps b WHERE b.run_id = s.run_id AND (b.started_at, b.position) < (s.started_at, s.position)
  ) f
  WHERE s.started_at >= since AND s.started_at < until
  GROUP BY CUBE (s.project_id, s.agent_slug, s.model)
  HAVING count(*) > 0;
  GET DIAGNOSTICS written = ROW_COUNT;
  RETURN written;
END $$;

-- The time from since until, in order and without gaps: periods whose sums hold, and between them what is to be read
-- from the steps. A statement sees sums, marks and steps as of one moment, so the two together are exact.
CREATE FUNCTION usage_parts(since timestamptz, until timestamptz)
RETURNS TABLE (starts_at timestamptz, ends_at timestamptz, summed boolean) LANGUAGE sql STABLE AS $$
  WITH sound AS (
    SELECT p.starts_at, p.ends_at FROM usage_periods p
    WHERE p.starts_at >= since AND p.ends_at <= until
      AND NOT EXISTS (SELECT FROM usage_marks m WHERE m.hour >= p.starts_at AND m.hour < p.ends_at)
  ), gaps AS (
    SELECT e.ends_at AS starts_at, lead(e.starts_at, 1, until) OVER (ORDER BY e.starts_at, e.ends_at) AS ends_at
    FROM (SELECT * FROM sound UNION ALL SELECT since, since) e
  )
  SELECT s.starts_at, s.ends_at, true FROM sound s
  UNION ALL
  SELECT g.starts_at, g.ends_at, false FROM gaps g WHERE g.starts_at < g.ends_at
$$;
