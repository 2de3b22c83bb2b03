"""The documentation, and the commands that write its generated parts: ``python -m docs.generate``, ``docs.picture``."""
