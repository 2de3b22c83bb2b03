"""N processes on one socket: start, watch, replace and drain them. Knows nothing of jobs, databases and routes."""
