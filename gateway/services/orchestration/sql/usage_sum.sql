-- purpose: Sum the newest period that is to be summed, and answer how many rows it has; NULL: there is none.
-- $1 by_day boolean: days that are over and are still in hours; false: hours that are over and have changed
SELECT sum_usage($1)
