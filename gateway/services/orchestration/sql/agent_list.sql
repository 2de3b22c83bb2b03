-- purpose: All agents that are rows; their number is bounded (agent_put).
SELECT slug, name, description, prompt, tools, model, output_schema, max_output_tokens, timeout_s, enabled, updated_by,
  updated_at
FROM agents ORDER BY slug
