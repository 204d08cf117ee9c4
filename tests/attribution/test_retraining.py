"""What methods that train again have in common: weights, losses and the drift."""

from dataclasses import replace

import numpy as np
import torch

from tda_utils.attribution.retraining import (
    leave_one_out_weights,
    retrained_losses,
    with_drift,
)
from tda_utils.engine.recipe import Job
from tests.plain import losses_on_test


def test_each_sample_is_left_out_in_turn_and_the_other_weights_stay(tiny_task, tiny_posterior):
    some = tiny_task.attribute_only([4, 1])
    own = torch.linspace(0.5, 1.5, 36).reshape(3, 12)
    for weights, wanted in ((own, own[1]), (None, torch.ones(12))):
        posterior = replace(tiny_posterior, weights=weights)
        whole, *others = leave_one_out_weights(posterior, some, 1)
        assert torch.equal(whole, wanted)
        for left_out, position in zip(others, (4, 1), strict=True):
            assert left_out[position] == 0
            kept = torch.arange(12) != position
            assert torch.equal(left_out[kept], wanted[kept])
    # The posterior's own weights are left as they were.
    assert own[1].all()


def test_training_again_for_no_step_gives_the_losses_there_are(
    tiny_task, tiny_recipe, tiny_posterior
):
    jobs = [Job(state, [[], []]) for state in tiny_posterior.states[1]]
    data = (tiny_posterior, tiny_task, tiny_recipe, jobs)
    found = retrained_losses(*data, workers=1, device="cpu", describe=None)
    assert found.shape == (2, tiny_recipe.keep_last, 7)
    for checkpoint in range(2):
        wanted = losses_on_test(tiny_posterior.module(1, checkpoint), tiny_task)
        np.testing.assert_allclose(found[checkpoint, -1], wanted, rtol=1e-5)


def test_scores_and_drift_are_changes_from_the_losses_before(tiny_task, tiny_posterior):
    some = tiny_task.attribute_only([4, 1])
    before = tiny_posterior.losses(some).values
    change = np.random.default_rng(0).normal(size=(3, 2, 3, 7)).astype(np.float32)
    # Runs in a row, as they come out of training.
    losses = torch.from_numpy(before[:, :, None] + change).reshape(-1, 1, 7)
    labels = {"method": "ats", "protocol": "paired", "sign": "removal", "step": "a step"}
    for factor in (1.0, -1.0):
        scores = with_drift(losses, factor, tiny_posterior, some, "cpu", **labels)
        np.testing.assert_allclose(scores, factor * change[:, :, 1:], atol=1e-5)
        np.testing.assert_allclose(scores.drift, factor * change[:, :, 0], atol=1e-5)
        assert scores.drift.dims == ("member", "checkpoint", "test")
        assert scores.attrs.items() >= labels.items()
    assert scores.train.values.tolist() == some.train_index[[4, 1]].tolist()
