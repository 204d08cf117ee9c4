"""Random numbers of training: streams, dropout masks and crops."""

import random
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.transforms import RandomResizedCrop

from tda_utils import Recipe, sample_posterior
from tda_utils.engine.noise import (
    CROP_STREAM,
    LOOK_STREAM,
    NOISE_STREAM,
    STEP_STREAM,
    UNPAIRED_STREAM,
    RandomResizedCrops,
    SeededDropout,
    _global_randomness,
    access_to_images,
    check_no_dropout,
    check_own_randomness,
    derived_seed,
)
from tda_utils.engine.recipe import Job, batch_order, initial_state
from tda_utils.engine.training import train_states
from tests.refusals import refused
from tests.tiny import build_with_dropout, make_task


def test_dropout_masks_have_the_rate_and_scale_of_pytorchs():
    def masks(p, channelwise):
        generator = torch.Generator().manual_seed(0)
        return SeededDropout(p, channelwise, generator)(torch.ones(200, 50, 4, 4))

    values = masks(0.3, False)
    assert values.unique().tolist() == pytest.approx([0, 1 / 0.7])
    assert float((values == 0).float().mean()) == pytest.approx(0.3, abs=0.01)
    assert float(values.mean()) == pytest.approx(1, abs=0.01)
    channels = masks(0.3, True)
    assert torch.equal(channels, channels[:, :, :1, :1].expand_as(channels))
    assert not torch.equal(channels[:, 0], channels[:, 1])
    assert int(masks(1.0, False).count_nonzero()) == 0


def test_masks_do_not_depend_on_the_type_of_number():
    values = [
        SeededDropout(0.5, False, torch.Generator().manual_seed(3))(torch.ones(9, dtype=dtype))
        for dtype in (torch.float32, torch.float64)
    ]
    assert torch.equal(values[0].double(), values[1])


def test_randomness_that_cannot_be_seeded_is_refused():
    task, recipe = make_task(), Recipe(epochs=1, keep_last=1)

    class Functional(nn.Sequential):
        def forward(self, images):
            return nn.functional.dropout(super().forward(images), 0.1, self.training)

    for build in (
        lambda: Functional(nn.Flatten(), nn.Linear(64, 4)),
        lambda: nn.Sequential(nn.Flatten(), nn.AlphaDropout(0.1), nn.Linear(64, 4)),
    ):
        train = partial(sample_posterior, build, task, recipe, seeds=(1,))
        refused(ValueError, train, "model", "global random state", "layer", "nn.Dropout")
    job = Job(initial_state(build_with_dropout, 1), batch_order(1, 12, recipe))
    data = (build_with_dropout(), task.train_x, task.train_y, recipe, [job])
    refused(ValueError, lambda: train_states(*data), "noise_seed is None", "0.3")


class Noisy(nn.Module):
    """Adds noise of one of the global random states."""

    def __init__(self, draw):
        super().__init__()
        self.draw = draw

    def forward(self, images):
        return images + self.draw() if self.training else images


@pytest.mark.parametrize(
    "draw",
    [lambda: float(torch.rand(())), random.random, lambda: np.random.random()],  # noqa: NPY002
)
def test_the_layer_that_draws_from_a_global_state_is_named(draw):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 4), Noisy(draw))
    call = partial(check_own_randomness, model, torch.rand(2, 1, 8, 8))
    before = str(_global_randomness())
    refused(ValueError, call, "model", "global random state", "layer '2' (Noisy)", "nn.Dropout")
    assert before == str(_global_randomness())


def test_dropout_may_be_called_by_keyword():
    layer = SeededDropout(0.5, False, torch.Generator().manual_seed(0))
    other = SeededDropout(0.5, False, torch.Generator().manual_seed(0))
    assert torch.equal(layer(input=torch.ones(9)), other(torch.ones(9)))


def test_dropout_is_refused_where_models_cannot_draw_masks_of_their_own():
    refused(ValueError, lambda: check_no_dropout(build_with_dropout()), "p=0.3", "'1'", "'cpu'")
    check_no_dropout(nn.Sequential(nn.Dropout(0.0), nn.Linear(2, 2)))


def test_every_use_has_a_stream_of_its_own():
    uses = (NOISE_STREAM, STEP_STREAM, UNPAIRED_STREAM, LOOK_STREAM, CROP_STREAM)
    seeds = {derived_seed(seed, use) for seed in (446, 724) for use in uses}
    assert len(seeds) == 10
    # What torch.manual_seed takes, also of a seed that is negative or another's child.
    for seed in (-1, 2**64 - 1, derived_seed(446, NOISE_STREAM)):
        torch.Generator().manual_seed(derived_seed(seed, STEP_STREAM, 3))


def test_images_are_left_as_they_are_or_cropped_from_a_stream_of_the_seed():
    images = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert access_to_images(None, None)(images) is images
    one, same, other = (access_to_images(6, seed) for seed in (1, 1, 2))
    first = one(images)
    assert torch.equal(first, same(images)) and not torch.equal(first, other(images))
    # The stream goes on, and a crop is no larger than what it is taken of.
    assert not torch.equal(first, one(images))
    assert float(first.max()) <= float(images.max()) + 1e-6
    refused(ValueError, lambda: access_to_images(6, None), "noise_seed is None", "crop=6")


def test_only_images_can_be_cropped():
    refused(ValueError, lambda: RandomResizedCrops(2, seed=0)(torch.ones(3, 4)), "crop is 2", (4,))


def test_crops_are_distributed_as_torchvisions():
    crops, image = RandomResizedCrops(8, seed=0), torch.zeros(1, 28, 28)
    ours = np.array([crops.box(28, 28) for _ in range(1500)])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        wanted = np.array(
            [RandomResizedCrop.get_params(image, (0.08, 1), (3 / 4, 4 / 3)) for _ in range(1500)]
        )
    np.testing.assert_allclose(ours.mean(0), wanted.mean(0), atol=0.6)
    np.testing.assert_allclose(ours.std(0), wanted.std(0), atol=0.5)
    assert (ours[:, :2] >= 0).all() and (ours[:, :2] + ours[:, 2:] <= 28).all()
    # Too wide for any crop of an allowed ratio and share: the largest one in the middle.
    assert RandomResizedCrops(8, seed=0).box(4, 100) == (0, 47, 4, 5)
