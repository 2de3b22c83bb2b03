-- purpose: the ledger's clock, which decides for all replicas
SELECT now()
