-- purpose: which job this one repeats, and the newest that repeat it
-- $1 id uuid: its id
-- $2 limit bigint: how many
SELECT (SELECT replay_of FROM jobs WHERE id = $1) AS replay_of,
       ARRAY(SELECT id FROM jobs WHERE replay_of = $1 ORDER BY id DESC LIMIT $2) AS replays
