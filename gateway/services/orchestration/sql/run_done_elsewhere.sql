-- purpose: What other runs of the same work (the one that it repeats, and all that repeat one of them) have done, a step for each position.
-- $1 id uuid: the run
-- Dry runs and real ones do not count for each other: of a dry run nothing was kept.
WITH RECURSIVE own AS (
  SELECT id, project_id, retry_of, dry_run FROM runs WHERE id = $1
), up AS (
  SELECT id, retry_of FROM own
  UNION ALL
  SELECT r.id, r.retry_of FROM runs r JOIN up ON r.id = up.retry_of
), family AS (
  SELECT id FROM up WHERE retry_of IS NULL
  UNION ALL
  -- Ids grow with time, and projects have an index: only what is newer than the run it repeats is looked at.
  SELECT r.id FROM family f
  JOIN runs r ON r.project_id = (SELECT project_id FROM own) AND r.id > f.id AND r.retry_of = f.id
)
SELECT DISTINCT ON (s.position) s.id, s.run_id, s.position, s.kind, s.agent_slug, s.status, s.attempts, s.output,
  s.partial_text, s.refusal, s.error, s.error_kind, s.model, s.provider, s.prompt_sha256, s.input_tokens,
  s.output_tokens, s.cost_micros, s.latency_ms, s.demo, s.started_at, s.finished_at, s.taken_from
FROM family f JOIN runs r ON r.id = f.id JOIN run_steps s ON s.run_id = f.id
WHERE f.id <> $1 AND s.status = 'completed' AND r.dry_run = (SELECT dry_run FROM own)
ORDER BY s.position, s.id DESC
