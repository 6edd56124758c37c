"""Experiments and claims."""

import zero2chat  # noqa: F401 - its settings of the environment, and its guard of sys.path, come first
