-- purpose: the newest run of each duty
SELECT DISTINCT ON (duty) id, duty, tick, replica, tries, started_at, finished_at, rows, error
FROM maintenance_runs ORDER BY duty, tick DESC
