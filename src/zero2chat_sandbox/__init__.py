"""Run code that a model wrote, isolated from the machine: Python programs, and the unit tests of a function.

Start at `python.run`. What is wrong with a setting, a test or the machine is a `SandboxError`, in one line.
"""


class SandboxError(Exception):
    """Why nothing was run: a setting out of range, tests that cannot be judged, or an engine that is missing."""
