-- purpose: a page of schedules, by name
-- $1 prefix text: of their names
-- $2 after text: the last name of the page before; NULL = from the start
-- $3 limit bigint: how many at most
SELECT * FROM schedules
WHERE starts_with(name, $1) AND ($2::text IS NULL OR name > $2)
ORDER BY name LIMIT $3
