"""A model on the Hugging Face Hub: what goes up, and its card."""
