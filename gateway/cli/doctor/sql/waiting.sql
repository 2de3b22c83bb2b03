-- purpose: queues in which jobs wait, and how many
SELECT queue, sum(n)::bigint AS n FROM job_counts WHERE state = 'waiting' GROUP BY queue HAVING sum(n) > 0
