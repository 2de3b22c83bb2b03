-- purpose: Add a member or change his role; a project keeps an owner and a bounded number of members.
-- $1 project_id uuid: the project
-- $2 principal text: who
-- $3 role text: owner or member
-- $4 most int: members that a project may have
WITH owners AS MATERIALIZED (  -- locked: two changes at once cannot each leave the other's owner as the last one
  SELECT principal FROM project_members WHERE project_id = $1 AND role = 'owner' ORDER BY principal FOR UPDATE
), room AS (  -- counts the owners, so that they are locked before the row that is changed: in one order, no deadlock
  SELECT (SELECT count(*) FROM owners) AS owners, EXISTS (SELECT FROM project_members WHERE project_id = $1 AND principal = $2)
    OR (SELECT count(*) FROM project_members WHERE project_id = $1) < $4 AS enough
), changed AS (
  INSERT INTO project_members AS m (project_id, principal, role)
  SELECT $1, $2, $3 FROM room WHERE enough AND owners >= 0
  ON CONFLICT (project_id, principal) DO UPDATE SET role = excluded.role
  WHERE m.role <> 'owner' OR excluded.role = 'owner' OR (SELECT owners FROM room) > 1
  RETURNING m.principal, m.role, m.added_at
)
SELECT changed.principal, changed.role, changed.added_at, NOT room.enough AS "full" FROM room LEFT JOIN changed ON true
