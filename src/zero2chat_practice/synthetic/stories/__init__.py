"""Stories of word problems."""
