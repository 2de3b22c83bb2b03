-- purpose: The newest projects by name, to choose from.
-- $1 limit bigint: at most so many
-- $2 chosen uuid: this one in any case; NULL: no other
(SELECT id, name FROM projects ORDER BY id DESC LIMIT $1)
UNION
SELECT id, name FROM projects WHERE id = $2
ORDER BY name, id
