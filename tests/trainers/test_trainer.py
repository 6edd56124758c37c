"""The order of rows, which seed and epoch decide."""

from __future__ import annotations

import pytest
import torch
from accelerate.data_loader import SeedableRandomSampler, prepare_data_loader, skip_first_batches
from torch.utils.data import DataLoader

from zero2chat.trainers.trainer import LengthGroupedSampler, set_epoch


def test_rows_of_like_length_stand_together_in_an_order_of_seed_and_epoch() -> None:
    lengths = [(37 * i) % 101 for i in range(96)]

    def order(seed: int, epoch: int) -> list[int]:
        sampler = LengthGroupedSampler(8, lengths, seed)
        sampler.set_epoch(epoch)
        torch.rand(epoch)  # what the global random state is does not matter
        return list(sampler)

    assert order(0, 1) == order(0, 1)
    assert len({tuple(order(seed, epoch)) for seed, epoch in ((0, 0), (0, 1), (5, 0))}) == 3
    assert sorted(order(0, 2)) == list(range(96))

    def padding(rows: list[int]) -> int:
        batches = [[lengths[i] for i in rows[start : start + 8]] for start in range(0, 96, 8)]
        return sum(8 * max(batch) - sum(batch) for batch in batches)

    assert padding(order(0, 1)) < padding(list(range(96))) / 2


@pytest.mark.parametrize("processes", [1, 2])
def test_the_epoch_reaches_the_sampler_of_a_resumed_run_on_any_number_of_processes(processes: int) -> None:
    rows = list(range(32))
    loader = DataLoader(rows, batch_size=2, sampler=SeedableRandomSampler(rows, generator=torch.Generator()))
    alone = DataLoader(rows, batch_size=2, sampler=SeedableRandomSampler(rows, generator=torch.Generator()))
    set_epoch(alone, 3)
    whole = torch.stack(list(alone))[processes - 1 :: processes]  # the last process's batches
    shard = prepare_data_loader(loader, num_processes=processes, process_index=processes - 1, put_on_device=False)
    skipped = skip_first_batches(shard, 2)
    skipped.set_epoch(3)  # as the Trainer
    set_epoch(skipped, 3)
    assert torch.equal(torch.stack(list(skipped)), whole[2:])
