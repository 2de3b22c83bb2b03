"""Features, one folder each. They never import one another; they meet by submitting jobs."""
