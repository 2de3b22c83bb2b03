-- purpose: who this ledger is
SELECT id FROM ledger
