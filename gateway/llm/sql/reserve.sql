-- purpose: may this call be made now; if so it is counted with its estimate
-- $1 provider text: whose lane
-- $2 model text: whose limits
-- $3 call_id uuid: of the reservation
-- $4 estimate bigint: tokens, in and out
-- $5 probe_s double precision: how long others wait for the one that tries a provider after failures
SELECT turn, why, wait_s FROM reserve_model_call($1, $2, $3, $4, $5)
