"""How good a model is: tasks of ours and standard ones, ratings, what it knows and what it has memorized."""
