-- purpose: where a research stands
-- $1 message_id uuid: whose
SELECT id, stage, percent, iteration, round, max_iterations, budget_micros, questions, plan FROM research_states
WHERE message_id = $1
