"""What tasks are made of, and no task: a made-up world, phrases and words."""
