-- purpose: Drop analyses that nobody renewed, but never a project's latest.
-- $1 kept_s float8: seconds
DELETE FROM analyses AS old WHERE old.analysed_at < now() - make_interval(secs => $1)
  AND EXISTS (SELECT 1 FROM analyses newer
    WHERE newer.project_id = old.project_id AND newer.analysed_at > old.analysed_at);
