-- purpose: To whom the mails of these jobs go: the first recipient, and how many there are.
-- $1 job_ids uuid[]: the jobs
SELECT job_id, coalesce(to_addresses[1], cc_addresses[1], bcc_addresses[1]) AS first,
       cardinality(to_addresses) + cardinality(cc_addresses) + cardinality(bcc_addresses) AS recipients
FROM emails
WHERE job_id = ANY ($1)
