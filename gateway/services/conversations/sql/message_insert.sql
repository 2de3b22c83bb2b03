-- purpose: keep a question
-- $1 id uuid: the message's
-- $2 conversation_id uuid: in which
-- $3 profile text: chat or deep-research
-- $4 auth_method text: how the caller said who he is
-- $5 question text: what is asked
-- $6 file_ids text[]: of files that are kept elsewhere
-- $7 model text: who is to answer
-- $8 job_id uuid: its job
INSERT INTO messages (id, conversation_id, profile, auth_method, question, file_ids, model, job_id, current_job_id)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8)
