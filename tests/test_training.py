import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from tda_utils import (
    PAPER_SEEDS,
    Posterior,
    Recipe,
    load_task,
    model_builder,
    sample_posterior,
)
from tda_utils.engine.noise import SeededDropout
from tda_utils.engine.parallel import parallel_map
from tda_utils.engine.recipe import Job, batch_order, initial_state
from tda_utils.engine.training import state_losses, train_states
from tda_utils.models.convolutional import CNN2L, CNN3L
from tests.conftest import build_tiny_cnn, make_task


def plain_loop(build_model, task, recipe, seed, dtype=torch.float32):
    """Train as one would without this package: one model, one DataLoader, PyTorch's own Adam."""
    torch.manual_seed(seed)
    model = build_model().to(dtype)
    optimizer = torch.optim.Adam(
        model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay, foreach=False
    )
    loader = DataLoader(
        TensorDataset(task.train_x.to(dtype), task.train_y), recipe.batch_size, shuffle=True
    )
    kept = []
    for epoch in range(recipe.epochs):
        for images, labels in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images), labels).backward()
            optimizer.step()
        if epoch >= recipe.epochs - recipe.keep_last:
            kept.append(copy.deepcopy(model.state_dict()))
    return kept, optimizer


@pytest.mark.parametrize(
    "count", [(CNN2L, 1, 225034), (CNN2L, 3, 259914), (CNN3L, 1, 619786), (CNN3L, 3, 620362)]
)
def test_networks_have_the_papers_numbers_of_parameters(count):
    network, channels, parameters = count
    assert sum(p.numel() for p in network(channels).parameters()) == parameters
    size = 28 if channels == 1 else 32
    assert network(channels)(torch.zeros(2, channels, size, size)).shape == (2, 10)


def test_members_equal_the_plain_loop_in_float32():
    """On the paper's network and data; 60 images make two batches an epoch, so the order matters.

    Adam divides by the square root of the gradient's running square, so rounding in tiny gradients
    shows: the tolerance is 1e-4 absolute, a tenth of one step of the optimiser.
    """
    task = load_task("mnist3", per_class=20, test_per_class=1)
    recipe = Recipe(epochs=3, keep_last=2)
    build = model_builder("cnn2", channels=1)
    posterior = sample_posterior(build, task, recipe, seeds=PAPER_SEEDS[:2])
    for member, seed in enumerate(PAPER_SEEDS[:2]):
        kept, _ = plain_loop(build, task, recipe, seed)
        for checkpoint, state in enumerate(kept):
            for name, value in state.items():
                ours = posterior.states[member][checkpoint][name]
                np.testing.assert_allclose(ours, value, rtol=0, atol=1e-4, err_msg=name)


def test_members_equal_the_plain_loop_in_float64(tiny_task, tiny_recipe):
    def build():
        return build_tiny_cnn().double()

    posterior = sample_posterior(build, tiny_task, tiny_recipe, seeds=(446, 724))
    for member, seed in enumerate((446, 724)):
        kept, optimizer = plain_loop(build, tiny_task, tiny_recipe, seed, torch.float64)
        for checkpoint, state in enumerate(kept):
            for name, value in state.items():
                np.testing.assert_allclose(
                    posterior.states[member][checkpoint][name], value, rtol=1e-9, atol=1e-9
                )
        adam = posterior.adam[member][-1]
        for (name, _), state in zip(
            build().named_parameters(), optimizer.state.values(), strict=True
        ):
            assert adam.step == float(state["step"])
            np.testing.assert_allclose(adam.exp_avg[name], state["exp_avg"], rtol=1e-8, atol=1e-11)
            np.testing.assert_allclose(
                adam.exp_avg_sq[name], state["exp_avg_sq"], rtol=1e-8, atol=1e-13
            )


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_results_do_not_depend_on_workers_or_company(
    tiny_task, tiny_recipe, tiny_posterior, workers
):
    """Exactly: to the last bit."""
    alone = sample_posterior(build_tiny_cnn, tiny_task, tiny_recipe, seeds=(724,), workers=workers)
    for checkpoint in range(2):
        for name, value in alone.states[0][checkpoint].items():
            assert torch.equal(value, tiny_posterior.states[1][checkpoint][name]), name


def test_seeds_can_be_set_apart(tiny_task, tiny_recipe):
    def members(**seeds):
        return sample_posterior(build_tiny_cnn, tiny_task, tiny_recipe, **seeds).states

    both = members(seeds=(1, 2))
    mixed = members(init_seeds=(1, 1, 2), order_seeds=(1, 2, 2))
    assert torch.equal(mixed[0][-1]["0.weight"], both[0][-1]["0.weight"])
    assert torch.equal(mixed[2][-1]["0.weight"], both[1][-1]["0.weight"])
    assert not torch.equal(mixed[1][-1]["0.weight"], mixed[0][-1]["0.weight"])
    assert not torch.equal(mixed[1][-1]["0.weight"], mixed[2][-1]["0.weight"])


def test_the_global_random_state_is_left_alone(tiny_task, tiny_recipe):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    sample_posterior(build_tiny_cnn, tiny_task, tiny_recipe, seeds=(1,))
    assert torch.equal(before, torch.get_rng_state())


def test_batch_order_without_a_model_is_the_loader_right_after_the_seed():
    recipe = Recipe(epochs=2, batch_size=4, keep_last=1)
    torch.manual_seed(9)
    loader = DataLoader(range(10), 4, shuffle=True)
    wanted = [[batch.tolist() for batch in loader] for _ in range(2)]
    assert [[b.tolist() for b in epoch] for epoch in batch_order(9, 10, recipe)] == wanted


def test_zero_weight_equals_a_zeroed_loss_and_the_full_batch_mean(tiny_task):
    """The batch mean counts the left-out sample, as the released code's does.

    Adam's running mean after one step is a tenth of the gradient.
    """
    model = build_tiny_cnn().double()
    recipe = Recipe(epochs=1, batch_size=12, keep_last=1, lr=0.1, weight_decay=0.0)
    weights = torch.ones(12)
    weights[4] = 0
    job = Job(model.state_dict(), [[torch.arange(12)]], weights)
    [[(_, adam)]] = train_states(model, tiny_task.train_x, tiny_task.train_y, recipe, [job])
    losses = nn.functional.cross_entropy(
        model(tiny_task.train_x.double()), tiny_task.train_y, reduction="none"
    )
    keep = torch.arange(12) != 4
    wanted = torch.autograd.grad(losses[keep].sum() / 12, list(model.parameters()))
    for (name, mean), value in zip(adam.exp_avg.items(), wanted, strict=True):
        np.testing.assert_allclose(mean, 0.1 * value, rtol=1e-9, atol=1e-12, err_msg=name)


def test_a_model_that_views_its_activations_keeps_working():
    class Viewing(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 4, 3)
            self.head = nn.Linear(4 * 36, 4)

        def forward(self, images):
            return self.head(self.conv(images).view(len(images), -1))

    task, recipe = make_task(), Recipe(epochs=2, batch_size=5, keep_last=1)
    posterior = sample_posterior(Viewing, task, recipe, seeds=(446,))
    kept, _ = plain_loop(Viewing, task, recipe, 446)
    np.testing.assert_allclose(
        posterior.states[0][0]["conv.weight"], kept[0]["conv.weight"], atol=1e-5
    )


def test_batch_norm_buffers_are_kept_and_used():
    def build():
        return nn.Sequential(
            nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.GELU(), nn.Flatten(), nn.Linear(108, 4)
        )

    task, recipe = make_task(), Recipe(epochs=2, batch_size=6, keep_last=1)
    posterior = sample_posterior(build, task, recipe, seeds=(446,))
    kept, _ = plain_loop(build, task, recipe, 446)
    for name in ("1.running_mean", "1.running_var", "1.num_batches_tracked"):
        np.testing.assert_allclose(posterior.states[0][0][name], kept[0][name], rtol=1e-4)


def test_evaluation_in_batches_equals_one_batch():
    task = make_task(n_test=230)
    model = build_tiny_cnn().double()
    whole = nn.functional.cross_entropy(model(task.test_x.double()), task.test_y, reduction="none")
    [losses] = state_losses(model, [model.state_dict()], task.test_x, task.test_y)
    np.testing.assert_allclose(losses, whole.detach(), rtol=1e-12)


def build_with_dropout():
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.Dropout2d(0.3), nn.Flatten(), nn.Dropout(0.2), nn.Linear(108, 4)
    )


@pytest.mark.parametrize("workers", [1, 2])
def test_dropout_draws_from_a_stream_of_the_member(workers):
    """The global random state neither matters nor changes, nor do other members."""
    task, recipe = make_task(), Recipe(epochs=2, batch_size=5, keep_last=1)
    torch.manual_seed(workers)
    before = torch.get_rng_state()
    both = sample_posterior(build_with_dropout, task, recipe, seeds=(1, 2), workers=workers)
    assert torch.equal(before, torch.get_rng_state())
    alone = sample_posterior(build_with_dropout, task, recipe, seeds=(2,), workers=1)
    for name, value in alone.states[0][0].items():
        assert torch.equal(value, both.states[1][0][name]), name
    without = sample_posterior(
        lambda: build_with_dropout().apply(lambda m: setattr(m, "p", 0.0)), task, recipe, seeds=(2,)
    )
    assert not torch.equal(without.states[0][0]["4.weight"], alone.states[0][0]["4.weight"])


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
        with pytest.raises(ValueError, match="model draws from the global random state"):
            sample_posterior(build, task, recipe, seeds=(1,))
    job = Job(initial_state(build_with_dropout, 1), batch_order(1, 12, recipe))
    with pytest.raises(ValueError, match="noise_seed is None"):
        train_states(build_with_dropout(), task.train_x, task.train_y, recipe, [job])


def test_frozen_parameters_stay_with_the_model():
    def build():
        model = build_tiny_cnn()
        model[0].requires_grad_(False)
        model[0].weight.data.fill_(0.1)
        model[0].bias.data.zero_()
        return model

    task, recipe = make_task(), Recipe(epochs=2, batch_size=5, keep_last=1)
    posterior = sample_posterior(build, task, recipe, seeds=(1, 2))
    trained = {"4.weight", "4.bias", "6.weight", "6.bias"}
    assert posterior.states[0][0].keys() == posterior.adam[0][0].exp_avg.keys() == trained
    assert torch.equal(posterior.module(1, 0)[0].weight, build()[0].weight)
    kept, _ = plain_loop(build, task, recipe, 2)
    for name in trained:
        np.testing.assert_allclose(posterior.states[1][0][name], kept[0][name], atol=1e-5)
    whole = posterior.module(1, 0).state_dict()
    again = Posterior.from_state_dicts(build(), [[whole]])
    assert again.states[0][0].keys() == trained
    whole["0.bias"] = whole["0.bias"] + 1
    with pytest.raises(ValueError, match="frozen parameter '0.bias' of the state differs"):
        Posterior.from_state_dicts(build(), [[whole]])


def test_frozen_parameters_that_depend_on_the_seed_are_refused():
    def build():
        model = build_tiny_cnn()
        model[0].requires_grad_(False)
        return model

    with pytest.raises(ValueError, match="frozen parameter '0.weight' of the state differs"):
        sample_posterior(build, make_task(), Recipe(epochs=1, keep_last=1), seeds=(1,))


@pytest.mark.parametrize("build", [build_tiny_cnn, lambda: CNN2L(1)])
def test_a_linear_schedule_equals_pytorchs_lambda_lr(build):
    """As the Hugging Face Trainer without warm-up; the second network has compiled passes."""
    size = 28 if isinstance(build(), CNN2L) else 8
    task = make_task(size=size)
    recipe = Recipe(epochs=3, batch_size=5, lr=1e-2, keep_last=1, schedule="linear")
    posterior = sample_posterior(lambda: build().double(), task, recipe, seeds=(446,))
    torch.manual_seed(446)
    model = build().double()
    adam = torch.optim.Adam(model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    data = TensorDataset(task.train_x.double(), task.train_y)
    loader = DataLoader(data, recipe.batch_size, shuffle=True)
    steps = recipe.epochs * len(loader)
    schedule = torch.optim.lr_scheduler.LambdaLR(adam, lambda step: max(0, (steps - step) / steps))
    for _ in range(recipe.epochs):
        for images, labels in loader:
            adam.zero_grad()
            nn.functional.cross_entropy(model(images), labels).backward()
            adam.step()
            schedule.step()
    for name, value in model.state_dict().items():
        np.testing.assert_allclose(posterior.states[0][0][name], value, atol=1e-9, err_msg=name)


def test_divergence_is_said_with_member_and_epoch():
    task = make_task()
    recipe = Recipe(epochs=3, batch_size=12, lr=1e30, keep_last=1)
    with pytest.warns(RuntimeWarning, match="member 446 diverged by epoch 3"):
        sample_posterior(build_tiny_cnn, task, recipe, seeds=(446,))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epochs": 0}, "epochs is 0; it must be an integer"),
        ({"batch_size": 2.5}, "batch_size is 2.5"),
        ({"keep_last": 16}, "keep_last is 16; it must be at most epochs"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"weight_decay": -1.0}, "weight_decay is -1.0"),
        ({"schedule": "cosine"}, "schedule is 'cosine'; it must be one of"),
    ],
)
def test_a_recipe_checks_its_values(values, message):
    with pytest.raises(ValueError, match=message):
        Recipe(**values)


def test_bad_calls_of_sample_posterior():
    task, recipe = make_task(), Recipe(epochs=1, keep_last=1)
    with pytest.raises(ValueError, match="init_seeds has 2 and order_seeds 3"):
        sample_posterior(build_tiny_cnn, task, recipe, init_seeds=(1, 2), order_seeds=(1, 2, 3))
    with pytest.raises(ValueError, match=r"weights has shape \(1, 3\); it must be \(1, 12\)"):
        sample_posterior(build_tiny_cnn, task, recipe, seeds=(1,), weights=torch.ones(1, 3))
    with pytest.raises(ValueError, match=r"does not take inputs of shape \(1, 8, 8\)"):
        sample_posterior(lambda: nn.Linear(3, 3), task, recipe, seeds=(1,))
    with pytest.raises(ValueError, match="at least 3"):
        sample_posterior(
            lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), task, recipe, seeds=(1,)
        )
    with pytest.raises(ValueError, match="model is 'vgg'; it must be one of"):
        model_builder("vgg", 1)
    with pytest.raises(ValueError, match="channels is 2"):
        model_builder("cnn2", 2)()


def test_a_state_that_does_not_fit_is_refused():
    state = initial_state(lambda: nn.Linear(3, 3), 0)
    with pytest.raises(ValueError, match="state lacks .* and has besides"):
        train_states(
            build_tiny_cnn(),
            torch.rand(2, 1, 8, 8),
            torch.tensor([0, 1]),
            Recipe(epochs=1, keep_last=1),
            [Job(state, [[torch.tensor([0, 1])]])],
        )


def test_parallel_map_keeps_order_raises_and_restores_threads():
    threads = torch.get_num_threads()
    assert parallel_map(lambda n: n * n, range(20), workers=3) == [n * n for n in range(20)]
    assert torch.get_num_threads() == threads

    def fail(n):
        if n == 3:
            raise RuntimeError("third")
        return n

    with pytest.raises(RuntimeError, match="third"):
        parallel_map(fail, range(10), workers=2)
    with pytest.raises(ValueError, match="workers is 0"):
        parallel_map(fail, [1], workers=0)
    assert parallel_map(fail, [], workers=2) == []
