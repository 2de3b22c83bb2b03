-- purpose: Forget rests that are long over: of tokens that were changed.
DELETE FROM github_lanes WHERE rests_until < now() - interval '1 day';
