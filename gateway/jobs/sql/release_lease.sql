-- purpose: let another take a named lease at once
-- $1 name text: of the lease
-- $2 holder text: who had it
DELETE FROM leases WHERE name = $1 AND holder = $2
