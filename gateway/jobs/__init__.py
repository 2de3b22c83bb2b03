"""The job engine. It knows nothing of e-mail or agents."""
