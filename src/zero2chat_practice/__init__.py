"""What a small model is taught: generated tasks."""

import zero2chat  # noqa: F401 - its settings of the environment, and its guard of sys.path, come first
