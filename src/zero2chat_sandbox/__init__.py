"""Run code that a model wrote, isolated from the machine: Python programs, and the unit tests of a function.

Start at `python.run`. An invalid setting or test, or an unsuitable machine, raises a one-line `SandboxError`.
"""


class SandboxError(Exception):
    """Why nothing was run: a setting out of range, tests that cannot be judged, or an engine that is missing."""
