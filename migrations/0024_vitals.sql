-- How a replica is, for people: memory, delay of its event loop. It tells it with each sign of life.
ALTER TABLE replicas ADD COLUMN vitals jsonb NOT NULL DEFAULT '{}';
