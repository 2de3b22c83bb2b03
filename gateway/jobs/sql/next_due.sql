-- purpose: in how many seconds the next delayed job is due (NULL: none is delayed)
SELECT extract(epoch FROM min(run_at) - now())::double precision FROM jobs WHERE state = 'delayed'
