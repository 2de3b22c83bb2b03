-- purpose: the next job goes on with a message that its caller holds
-- $1 id uuid: the message
-- $2 job_id uuid: the next one
-- $3 stage text: what it will do
-- $4 percent smallint: how far it is
-- $5 demo boolean: no model was asked
UPDATE messages SET current_job_id = $2, fence = 0, stage = $3, percent = $4, demo = demo OR $5, partial = NULL WHERE id = $1
