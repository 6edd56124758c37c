"""A corpus from web crawls, as FineWeb was made: datatrove runs it."""

import zero2chat  # noqa: F401 - its settings of the environment, and its guard of sys.path, come first
