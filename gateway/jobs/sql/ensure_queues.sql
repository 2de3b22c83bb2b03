-- purpose: make sure that each declared queue has its row
-- $1 names text[]: queue names
INSERT INTO queues (name) SELECT unnest($1::text[]) ON CONFLICT (name) DO NOTHING
