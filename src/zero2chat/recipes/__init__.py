"""Recipes: load, plan, preview and run a graph of steps."""
