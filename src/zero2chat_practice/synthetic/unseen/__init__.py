"""Questions of writers who have seen no training data."""
