"""Is this answer that one: found in a text, read by a grammar, compared exactly. The way in is `verify.judge`."""
