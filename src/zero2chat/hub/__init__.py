"""A model on the Hugging Face Hub: the files that are pushed, and the model card."""
