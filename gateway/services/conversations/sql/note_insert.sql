-- purpose: keep what an iteration brought
-- $1 state_id uuid: of which research
-- $2 number integer: which iteration, from 1
-- $3 job_id uuid: its job
-- $4 stage text: what it did
-- $5 subject text: the question of a search; NULL = none
-- $6 output jsonb: what it brought
-- $7 demo boolean: no model was asked
-- $8 cost_micros bigint: millionths of a US dollar
INSERT INTO research_notes (state_id, number, job_id, stage, subject, output, demo, cost_micros)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
