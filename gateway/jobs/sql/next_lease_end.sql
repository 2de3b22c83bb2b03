-- purpose: in how many seconds the first lease runs out (NULL: none is held)
SELECT extract(epoch FROM min(lease_until) - now())::double precision FROM jobs WHERE state = 'active'
