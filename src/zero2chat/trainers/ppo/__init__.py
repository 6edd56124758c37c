"""PPO: the trainer, its settings, formulas, model, rewards and rollouts."""
