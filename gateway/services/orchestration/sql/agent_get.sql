-- purpose: One agent that is a row.
-- $1 slug text: its name in addresses
SELECT slug, name, description, prompt, tools, model, output_schema, max_output_tokens, timeout_s, enabled, updated_by,
  updated_at
FROM agents WHERE slug = $1
