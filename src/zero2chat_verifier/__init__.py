"""Check whether an answer equals a reference: find it in a text, parse it, compare exactly.

Start at `verify.verify_answer`.
"""
