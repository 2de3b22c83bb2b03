-- purpose: an iteration is done
-- $1 id uuid: the state
-- $2 stage text: of the next one
-- $3 percent smallint: how far it is
-- $4 iteration integer: how many are done
-- $5 round integer: how many analyses asked for more
-- $6 questions jsonb: those that are left
-- $7 plan jsonb: the plan
UPDATE research_states SET stage = $2, percent = $3, iteration = $4, round = $5, questions = $6, plan = $7,
  updated_at = clock_timestamp()
WHERE id = $1
