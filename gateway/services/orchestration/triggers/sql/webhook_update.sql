-- purpose: Give a webhook trigger new values; its secret stays.
-- $1 id uuid: its id
-- $2 name text: for people
-- $3 agent_slug text: the one agent; NULL: a batch
-- $4 scheme text: who signs, and how
-- $5 events text[]: that it acts upon; empty: any
-- $6 actions text[]: that it acts upon; empty: any
-- $7 branches text[]: patterns; empty: any
-- $8 on_conflict text: what happens while such a run is open
-- $9 max_per_minute integer: deliveries that it acts upon
-- $10 enabled boolean: whether it acts at all
UPDATE webhook_triggers SET name = $2, agent_slug = $3, scheme = $4, events = $5, actions = $6, branches = $7, on_conflict = $8,
  max_per_minute = $9, enabled = $10, updated_at = now()
WHERE id = $1
RETURNING *
