-- purpose: A webhook trigger; answers nothing when the project has one of this name already.
-- $1 id uuid: its id
-- $2 project_id uuid: whose runs it starts
-- $3 name text: for people
-- $4 agent_slug text: the one agent; NULL: a batch
-- $5 scheme text: who signs, and how
-- $6 events text[]: that it acts upon; empty: any
-- $7 actions text[]: that it acts upon; empty: any
-- $8 branches text[]: patterns; empty: any
-- $9 on_conflict text: what happens while such a run is open
-- $10 max_per_minute integer: deliveries that it acts upon
-- $11 enabled boolean: whether it acts at all
-- $12 salt bytea: of its secret
-- $13 key_check bytea: of the key that its secret was derived with
-- $14 caller text: who made it
INSERT INTO webhook_triggers (id, project_id, name, agent_slug, scheme, events, actions, branches, on_conflict, max_per_minute,
  enabled, salt, key_check, created_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
ON CONFLICT (project_id, name) DO NOTHING
RETURNING *
