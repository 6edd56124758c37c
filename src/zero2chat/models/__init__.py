"""A model on disk and in memory: loading it, its tokenizer and chat template, reward models, sizes."""
