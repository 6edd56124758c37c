"""Generate text for many prompts at once, or in a session, by a model in this process or behind an endpoint."""
