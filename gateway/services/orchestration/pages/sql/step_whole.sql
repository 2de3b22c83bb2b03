-- purpose: All that a step brought, as it is kept: its output, and the words of a model that was cut.
-- $1 run_id uuid: the run
-- $2 position int: which of its steps
SELECT output::text AS output, partial_text AS partial FROM run_steps WHERE run_id = $1 AND position = $2
