-- purpose: Work on a step begins; one that an attempt with a later fence has, or that is done, is left alone.
-- $1 id uuid: the step
-- $2 fence bigint: of the attempt
-- $3 model text: that is asked; NULL: none
-- $4 prompt_sha256 text: of all that it is told; NULL: nothing
UPDATE run_steps SET status = 'running', attempts = attempts + 1, fence = $2, model = coalesce($3, model),
  prompt_sha256 = coalesce($4, prompt_sha256), started_at = clock_timestamp(), finished_at = NULL, error = NULL,
  error_kind = NULL, refusal = NULL, partial_text = NULL
WHERE id = $1 AND status <> 'completed' AND (fence IS NULL OR fence <= $2)
RETURNING id
