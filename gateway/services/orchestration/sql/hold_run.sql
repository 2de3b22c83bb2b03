-- purpose: Hold a run still, so that of two who end its last actions at once one sees what the other did.
-- $1 id uuid: the run
SELECT status FROM runs WHERE id = $1 FOR NO KEY UPDATE
