"""What a recipe will take, and what its stages will see."""
