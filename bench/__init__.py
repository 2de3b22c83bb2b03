"""Measurements: ``python -m bench [NAME...]``, one JSON line each. Compare ratios within one run: machines differ."""
