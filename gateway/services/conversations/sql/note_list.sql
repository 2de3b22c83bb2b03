-- purpose: what the iterations of a research brought, in order
-- $1 state_id uuid: which
SELECT number, stage, subject, output, demo, cost_micros, created_at FROM research_notes WHERE state_id = $1 ORDER BY number
