-- purpose: A run, in the transaction that inserts its job.
-- $1 id uuid: of the run and of its job
-- $2 project_id uuid: whose it is
-- $3 job_type text: batch, single_agent, github_analysis or retry
-- $4 work text: what it does: the same, and for a retry the job_type of what it repeats
-- $5 agent_slug text: the one agent; NULL: none is named
-- $6 triggered_by text: who started it
-- $7 user_id text: the person; NULL: nobody
-- $8 context jsonb: what the agents are told
-- $9 dry_run boolean: nothing is done
-- $10 budget_micros bigint: of this run alone; NULL: none
-- $11 timeout_ms integer: of the whole run; NULL: none
-- $12 retry_of uuid: the run that it repeats
-- $13 priority smallint: of its job
-- $14 scheduled_at timestamptz: not before; NULL: at once
-- $15 dedupe_key text: at most one open job has it
INSERT INTO runs (id, project_id, job_type, work, agent_slug, triggered_by, user_id, context, dry_run, budget_micros,
                  timeout_ms, retry_of, priority, scheduled_at, dedupe_key)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
