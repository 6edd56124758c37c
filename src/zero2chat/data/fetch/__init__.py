"""The data that `make` fetches: WARC files of Debian's documentation, a small real model, an almanac."""
