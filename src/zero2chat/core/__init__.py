"""What every other part uses: run folders, settings, errors, statistics, text."""
