-- purpose: Take a member out of a project, unless he is its last owner.
-- $1 project_id uuid: the project
-- $2 principal text: who
WITH owners AS MATERIALIZED (  -- locked: two owners who leave at once cannot both go
  SELECT principal FROM project_members WHERE project_id = $1 AND role = 'owner' ORDER BY principal FOR UPDATE
), removed AS (
  DELETE FROM project_members
  WHERE project_id = $1 AND principal = $2 AND (role <> 'owner' OR (SELECT count(*) FROM owners) > 1)
  RETURNING principal
)
SELECT EXISTS (SELECT FROM removed) AS removed,
  EXISTS (SELECT FROM project_members WHERE project_id = $1 AND principal = $2) AS was_member
