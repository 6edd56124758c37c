"""A finished model for programs that are not transformers: GGUF for llama.cpp, and adapters merged for all others."""
