"""The data that `make` fetches: a small real model, and word problems that others wrote."""
