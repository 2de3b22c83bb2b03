-- purpose: The last position of each channel that has one.
-- $1 channels text[]: any number
SELECT channel, last FROM realtime_channels WHERE channel = ANY ($1);
