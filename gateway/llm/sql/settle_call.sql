-- purpose: put the true figure in the place of the estimate
-- $1 call_id uuid: of the reservation; unknown where the model has no limit
-- $2 tokens bigint: in and out
UPDATE model_calls SET tokens = $2 WHERE id = $1
