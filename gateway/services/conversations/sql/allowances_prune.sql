-- purpose: forget callers who asked nothing for an hour, which is longer than any window
DELETE FROM message_allowances WHERE accepted[cardinality(accepted)] < now() - interval '1 hour'
