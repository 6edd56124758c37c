"""Stories that can happen in any setting of `settings.yaml`."""
