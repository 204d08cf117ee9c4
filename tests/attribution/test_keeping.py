"""What a training depends on: each thing that changes its losses changes its values."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from tda_utils import Recipe
from tda_utils.attribution.keeping import code_of, digest_of, digest_of_state, job_values, source_of
from tda_utils.engine.recipe import Job, batch_order, initial_state
from tests.tiny import SHORT, build_mlp, table_task


def job_of(seed=446, weights=None, recipe=SHORT, noise_seed=1):
    start = initial_state(build_mlp, seed)
    return Job(start, batch_order(seed, 9, recipe, build_mlp), weights, noise_seed=noise_seed)


def values_of(task, recipe, job, model=None):
    (values,) = job_values(build_mlp() if model is None else model, task, recipe, [job])
    return values


def test_the_same_training_has_the_same_values_whoever_asks():
    """Parameters of the architecture, the attributed samples and other jobs have no part in it."""
    task = table_task()
    jobs = [job_of(), job_of(724), job_of()]
    first, other, again = job_values(build_mlp(), task, SHORT, jobs)
    assert first == again != other
    assert first == values_of(task.attribute_only([1]), SHORT, job_of(), build_mlp())


def test_everything_that_matters_makes_another_name():
    task, job = table_task(), job_of()
    wanted = values_of(task, SHORT, job)
    moved = {name: value + 1e-7 for name, value in job.state.items()}
    frozen = build_mlp()
    frozen[0].weight.requires_grad_(False)
    others = [
        values_of(task, replace(SHORT, lr=0.5), job),
        values_of(task, replace(SHORT, weight_decay=0.5), job),
        values_of(task, SHORT, replace(job, state=moved)),
        values_of(task, SHORT, replace(job, order=job.order[::-1])),
        values_of(task, SHORT, replace(job, weights=torch.ones(9))),
        values_of(task, SHORT, replace(job, weights=torch.arange(9.0))),
        values_of(task, SHORT, replace(job, noise_seed=2)),
        values_of(task.select(test=[0, 1]), SHORT, job),
        values_of(replace(task, train_y=task.train_y.flip(0)), SHORT, job),
        values_of(task, SHORT, job, nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))),
        values_of(task, SHORT, job, build_mlp().double()),
        values_of(task, SHORT, job, frozen),
    ]
    keys = [str(sorted(values.items())) for values in [wanted, *others]]
    assert len(set(keys)) == len(keys)


def test_a_recipes_defaults_are_not_named_so_that_new_ones_rename_nothing():
    named = values_of(table_task(), Recipe(epochs=3, keep_last=2), job_of())["recipe"]
    assert named == {"epochs": 3, "keep_last": 2}


def test_code_of_ones_own_is_part_of_a_model_and_pytorchs_is_not():
    class Own(nn.Linear):
        def forward(self, rows):
            return super().forward(rows) * 2

    first = Own(2, 1)

    class Own(nn.Linear):
        def forward(self, rows):
            return super().forward(rows) * 3

    class Under(Own):
        pass

    assert repr(first) == repr(Own(2, 1)) and code_of(first) != code_of(Own(2, 1))
    assert "* 3" in source_of(Under)
    assert code_of(build_mlp()) == code_of(build_mlp())


def test_a_function_is_told_by_its_source_and_by_plain_values_around_it():
    def loop(lr, data, again=1):
        def train(weights, init_seed, order_seed):
            return lr, data, again

        return train

    def other(weights, init_seed, order_seed):
        return 0.1, [1], 1

    class Trainer:
        def __call__(self, weights, init_seed, order_seed):
            return 4

        train = __call__

    told = [
        loop(0.1, [1]),
        loop(0.2, [1]),
        loop(0.1, [1], 2),
        other,
        partial(loop, 0.1),
        partial(loop, 0.1, again=2),
        partial(loop, 0.1, data=other),
        Trainer(),
    ]
    assert len({source_of(one) for one in told}) == len(told)
    # What is no plain value, such as data, is known by its kind alone.
    assert source_of(loop(0.1, [1])) == source_of(loop(0.1, [2]))
    assert "return 4" in source_of(Trainer()) and "return 4" in source_of(Trainer().train)
    assert source_of(torch.optim.SGD) == "torch.optim.sgd.SGD"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.bool])
def test_digests_tell_types_and_shapes_apart(dtype):
    tensor = torch.ones(2, 3).to(dtype)
    assert digest_of(tensor) == digest_of(tensor.clone())
    assert digest_of(tensor) != digest_of(tensor.T)
    assert digest_of(tensor) != digest_of(tensor.double())
    state = {"a": tensor, "b": tensor[0]}
    assert digest_of_state(state) == digest_of_state(dict(reversed(state.items())))
    assert digest_of_state(state) != digest_of_state({"a": tensor[0], "b": tensor})
    assert digest_of(torch.tensor(1)) != digest_of(torch.tensor([1]))
