-- purpose: what administrators replaced of the queues' policies
SELECT queue, changes FROM queue_overrides
