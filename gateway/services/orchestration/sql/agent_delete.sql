-- purpose: Take an agent's row away.
-- $1 slug text: its name in addresses
DELETE FROM agents WHERE slug = $1 RETURNING slug
