"""Look ahead of a run: the memory, time and cost of a recipe, and the rows that its stages will see."""
