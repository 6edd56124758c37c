"""Zero-variance groups are replaced by others; shapes, padding and token counts stay correct."""

from __future__ import annotations

from typing import Any

import torch
from accelerate import Accelerator

from zero2chat.trainers.grpo import resample

PAD = 9


def batch(advantages: list[list[float]], prompt: int, completion: int, first: int) -> dict[str, Any]:
    """Two answers a group; group i's prompt is all `first` + i, as long as `prompt`."""
    rows = len(advantages) * 2
    ids = torch.arange(first, first + len(advantages)).repeat_interleave(2)
    return {
        "prompt_ids": ids[:, None].expand(-1, prompt).clone(),
        "prompt_mask": torch.ones(rows, prompt, dtype=torch.long),
        "completion_ids": (ids + 100)[:, None].expand(-1, completion).clone(),
        "completion_mask": torch.ones(rows, completion, dtype=torch.long),
        "old_per_token_logps": -ids[:, None].expand(-1, completion).float(),
        "importance_sampling_ratio": ids[:, None].float(),
        "advantages": torch.tensor(advantages).flatten(),
        "num_items_in_batch": torch.tensor(rows * completion),
    }


class Sampler:
    def __init__(self, *batches: dict[str, Any]):
        self.batches, self.asked = list(batches), []

    def __call__(self, inputs: list[Any]) -> dict[str, Any]:
        self.asked.append(inputs)
        return self.batches.pop(0)

    def run(self, rounds: int) -> tuple[dict[str, Any], int]:
        return resample(self, ["first"], lambda n: [f"fresh {n}"], rounds, 2, PAD, Accelerator(cpu=True))


DEAD, ALIVE = [0.0, 9.4e-3], [1.0, -1.0]  # what equal rewards may come to: float noise, divided by 1e-4


def test_dead_groups_are_replaced_by_living_ones_of_further_problems():
    sampler = Sampler(
        batch([DEAD, ALIVE, DEAD], prompt=3, completion=2, first=10),
        batch([DEAD, DEAD, ALIVE], prompt=2, completion=4, first=20),
        batch([ALIVE, ALIVE, ALIVE], prompt=4, completion=1, first=30),
    )
    result, replaced = sampler.run(rounds=5)
    assert replaced == 2
    assert sampler.asked == [["first"], ["fresh 0"], ["fresh 1"]]
    assert result["prompt_ids"][::2].tolist() == [[PAD, PAD, 22, 22], [PAD, 11, 11, 11], [30, 30, 30, 30]]
    assert result["prompt_mask"][::2].tolist() == [[0, 0, 1, 1], [0, 1, 1, 1], [1, 1, 1, 1]]
    assert result["completion_ids"][1::2].tolist() == [[122] * 4, [111, 111, PAD, PAD], [130, PAD, PAD, PAD]]
    assert result["completion_mask"].sum(1).tolist() == [4, 4, 2, 2, 1, 1]
    assert result["old_per_token_logps"][0].tolist() == [-22.0] * 4
    assert result["importance_sampling_ratio"].flatten().tolist() == [22, 22, 11, 11, 30, 30]
    assert result["advantages"].tolist() == ALIVE * 3
    assert result["num_items_in_batch"] == 14


def test_what_is_still_alike_after_the_last_round_stays_and_living_groups_are_not_sampled_again():
    sampler = Sampler(batch([DEAD, ALIVE], 1, 1, 10), batch([DEAD, DEAD], 1, 1, 20))
    output, replaced = sampler.run(rounds=1)
    assert replaced == 0
    assert output["prompt_ids"].flatten().tolist() == [10, 10, 11, 11]
    sampler = Sampler(batch([ALIVE, ALIVE], 1, 1, 10))
    assert (sampler.run(rounds=3)[1], len(sampler.asked)) == (0, 1)


def test_a_group_in_which_only_masked_answers_differ_is_replaced():
    first, more = batch([ALIVE, [0.0, 2.0], ALIVE], 1, 2, 10), batch([[0.0, 2.0], ALIVE, ALIVE], 1, 2, 20)
    first["completion_mask"][3] = more["completion_mask"][1] = 0  # the answers that differ are cut
    first["completion_mask"][0] = 0  # its neighbour still teaches
    result, replaced = Sampler(first, more).run(rounds=1)
    assert replaced == 1
    assert result["prompt_ids"].flatten()[::2].tolist() == [10, 21, 12]
    assert result["num_items_in_batch"] == 10
