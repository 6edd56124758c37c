"""What a small model is taught: generated tasks."""
