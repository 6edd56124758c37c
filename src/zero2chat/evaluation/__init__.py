"""Evaluation: our tasks, standard benchmarks, comparisons of models, and the user's own data."""
