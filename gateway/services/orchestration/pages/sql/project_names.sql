-- purpose: What projects are called.
-- $1 ids uuid[]: of these
SELECT id, name FROM projects WHERE id = ANY ($1)
