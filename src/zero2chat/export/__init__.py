"""Export a trained model for other programs: GGUF for llama.cpp, and merged adapters."""
