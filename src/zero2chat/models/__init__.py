"""Models on disk and in memory: loading, tokenizers, chat templates, reward models, and sizes."""
