"""Text from a model: for many prompts at once, or a session; in this process or behind an endpoint."""
