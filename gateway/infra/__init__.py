"""Adapters to the outside, with no business words."""
