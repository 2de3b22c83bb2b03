-- purpose: Write an agent, unless there are too many.
-- $1 slug text: its name in addresses
-- $2 name text: for people
-- $3 description text: for people
-- $4 prompt text: what it is told
-- $5 tools text[]: what it may use
-- $6 model text: a name of the price table; NULL: the default
-- $7 output_schema jsonb: of its own fields; NULL: none
-- $8 max_output_tokens int: of an answer
-- $9 timeout_s int: seconds for a call
-- $10 enabled boolean: whether it runs
-- $11 by text: who writes it
-- $12 most int: rows that there may be
INSERT INTO agents (slug, name, description, prompt, tools, model, output_schema, max_output_tokens, timeout_s, enabled,
  updated_by)
SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11
WHERE (SELECT count(*) FROM agents) < $12 OR EXISTS (SELECT FROM agents WHERE slug = $1)
ON CONFLICT (slug) DO UPDATE SET name = excluded.name, description = excluded.description, prompt = excluded.prompt,
  tools = excluded.tools, model = excluded.model, output_schema = excluded.output_schema,
  max_output_tokens = excluded.max_output_tokens, timeout_s = excluded.timeout_s, enabled = excluded.enabled,
  updated_by = excluded.updated_by, updated_at = now()
RETURNING xmax = 0 AS inserted
