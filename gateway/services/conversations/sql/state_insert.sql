-- purpose: a research begins
-- $1 id uuid: the state's
-- $2 message_id uuid: whose
-- $3 stage text: the first one
-- $4 max_iterations integer: at most so many
-- $5 budget_micros bigint: millionths of a US dollar; NULL = any
INSERT INTO research_states (id, message_id, stage, max_iterations, budget_micros) VALUES ($1, $2, $3, $4, $5)
