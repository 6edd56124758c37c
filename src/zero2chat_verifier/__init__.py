"""Check whether an answer equals a reference: find it in a text, parse it, compare exactly.

Start at `verify.verify_answer`.
"""


class VerifierError(Exception):
    """What is wrong with a file of rows to judge, and where, in one line."""
