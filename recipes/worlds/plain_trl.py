"""Train on the world `rooms` with plain TRL: of zero2chat, this script uses only the world and its rows.

    python recipes/worlds/plain_trl.py Qwen/Qwen3-0.6B runs/worlds/plain_trl 100

The class goes to TRL's `environment_factory` as it is. TRL resets an instance for each completion, appends the first
observation to the prompt, calls the methods that the model asks for, and takes the reward from `get_reward`.
"""

import sys

import torch
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from zero2chat_practice.worlds.rooms import Rooms, world


def main(model: str, output_dir: str, steps: str = "2") -> None:
    rows = [world(seed, horizon, "train") for seed in range(64) for horizon in range(1, 9)]
    settings = GRPOConfig(
        output_dir=output_dir,
        max_steps=int(steps),
        per_device_train_batch_size=8,
        num_generations=8,
        max_completion_length=256,
        bf16=torch.cuda.is_available(),
        max_tool_calling_iterations=16,
        learning_rate=1e-6,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
    )
    trainer = GRPOTrainer(model, args=settings, train_dataset=Dataset.from_list(rows), environment_factory=Rooms)
    trainer.train()
    trainer.save_model()


if __name__ == "__main__":
    main(*sys.argv[1:])
