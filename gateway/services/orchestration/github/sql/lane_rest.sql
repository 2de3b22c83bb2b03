-- purpose: For how many seconds a lane must rest.
-- $1 lane text: API and token
SELECT greatest(extract(epoch FROM rests_until - now()), 0)::float8 FROM github_lanes WHERE lane = $1;
