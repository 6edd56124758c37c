"""What everything rests on: run folders, settings, errors, statistics, text."""
