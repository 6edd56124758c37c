"""Experiments and claims."""
