"""Evaluation: our tasks, standard benchmarks, ratings, knowledge and memorization."""
