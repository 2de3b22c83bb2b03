-- Where a job comes from: the request that asked for it, and the trace that it is part of (W3C traceparent). Both NULL:
-- nobody asked, as for a schedule. Without defaults, so that no row is rewritten.
ALTER TABLE jobs
  ADD COLUMN request_id text,
  ADD COLUMN traceparent text;
