"""A corpus from web crawls, as FineWeb was made: datatrove runs it."""
