"""Durable e-mail and agent jobs in one process."""

__version__ = "0.1.0"
