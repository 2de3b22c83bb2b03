-- purpose: how many jobs each queue has in each state, exact; reads a handful of rows whatever the backlog
SELECT queue, state, sum(n)::bigint AS n FROM job_counts GROUP BY queue, state
