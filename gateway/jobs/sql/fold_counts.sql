-- purpose: replace the differences that statements left by their sums
WITH taken AS (DELETE FROM job_counts RETURNING queue, state, n)
INSERT INTO job_counts SELECT queue, state, sum(n) FROM taken GROUP BY queue, state HAVING sum(n) <> 0
