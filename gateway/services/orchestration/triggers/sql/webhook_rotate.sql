-- purpose: Give a webhook trigger another secret; the old one is good for nothing from now on.
-- $1 id uuid: its id
-- $2 salt bytea: of the new secret
-- $3 key_check bytea: of the key that it was derived with
UPDATE webhook_triggers SET salt = $2, key_check = $3, updated_at = now() WHERE id = $1 RETURNING *
