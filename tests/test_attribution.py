import copy

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

import tda_utils as tda
from tda_utils import Posterior, Recipe, sample_posterior
from tda_utils.attribution.blocks import dense, gram, squared_norms
from tda_utils.attribution.gradients import LayerGradients, gradient_method
from tda_utils.attribution.hessian import hessian_product
from tests.conftest import build_tiny_cnn, make_task
from tests.test_training import plain_loop


def flat(tensors):
    return torch.cat([t.flatten() for t in tensors])


def autograd_gradients(model, images, labels):
    """Return one gradient a sample by one backward pass a sample."""
    rows = []
    for image, label in zip(images, labels, strict=True):
        loss = nn.functional.cross_entropy(model(image[None]), label[None])
        rows.append(flat(torch.autograd.grad(loss, list(model.parameters()))))
    return torch.stack(rows)


def as_double(posterior):
    states = [[{n: v.double() for n, v in s.items()} for s in m] for m in posterior.states]
    model = copy.deepcopy(posterior.model).double()
    return Posterior.from_state_dicts(model, states, seeds=posterior.order_seeds)


def plain_loo(build_model, task, recipe, seed, removed, dtype=torch.float64):
    """Retrain by hand with one sample's loss set to zero; return each checkpoint's test losses."""
    torch.manual_seed(seed)
    model = build_model().to(dtype)
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    data = list(zip(task.train_x.to(dtype), task.train_y, range(task.n_train), strict=True))
    loader = torch.utils.data.DataLoader(data, recipe.batch_size, shuffle=True)
    kept = []
    for epoch in range(recipe.epochs):
        for images, labels, positions in loader:
            optimizer.zero_grad()
            losses = nn.functional.cross_entropy(model(images), labels, reduction="none")
            losses = torch.where(positions == removed, torch.zeros_like(losses), losses)
            losses.mean().backward()
            optimizer.step()
        if epoch >= recipe.epochs - recipe.keep_last:
            kept.append(losses_on_test(model, task))
    return torch.stack(kept)


def losses_on_test(model, task):
    dtype = next(model.parameters()).dtype
    with torch.no_grad():
        return nn.functional.cross_entropy(
            model(task.test_x.to(dtype)), task.test_y, reduction="none"
        )


# ---------------- leave-one-out


def test_paired_loo_equals_retraining_by_hand(tiny_task, tiny_recipe):
    def build():
        return build_tiny_cnn().double()

    posterior = sample_posterior(build, tiny_task, tiny_recipe, seeds=(446, 724))
    tau = tda.loo(posterior, tiny_task, tiny_recipe)
    assert tau.dims == ("member", "checkpoint", "train", "test")
    for member, seed in enumerate((446, 724)):
        base = plain_loo(build, tiny_task, tiny_recipe, seed, removed=-1)
        for position in (0, 7):
            wanted = plain_loo(build, tiny_task, tiny_recipe, seed, position) - base
            np.testing.assert_allclose(tau[member, :, position], wanted, rtol=1e-7, atol=1e-10)


def test_loo_of_a_zero_weight_point_is_exactly_zero(tiny_task, tiny_recipe):
    weights = torch.ones(1, 12)
    weights[0, 5] = 0
    posterior = sample_posterior(
        build_tiny_cnn, tiny_task, tiny_recipe, seeds=(446,), weights=weights
    )
    tau = tda.loo(posterior, tiny_task)
    assert float(abs(tau[:, :, 5]).max()) == 0
    assert float(abs(tau[:, :, 4]).max()) > 0


def test_loo_base_is_the_posterior_itself(tiny_task, tiny_recipe, tiny_posterior):
    """So that checkpoint is compared with checkpoint."""
    again = sample_posterior(build_tiny_cnn, tiny_task, tiny_recipe, seeds=(446, 724, 571))
    assert tiny_posterior.losses(tiny_task).equals(again.losses(tiny_task))


def test_continued_loo_equals_the_released_procedure(tiny_task, tiny_recipe, tiny_posterior):
    """Checkpoint, fresh Adam, seed, all epochs with z_j's loss zeroed, minus the checkpoint."""
    posterior = as_double(tiny_posterior)
    tau = tda.loo(posterior, tiny_task, tiny_recipe, protocol="released")
    member, checkpoint, removed = 1, 0, 3
    model = posterior.module(member, checkpoint)
    before = losses_on_test(model, tiny_task)
    data = list(zip(tiny_task.train_x.double(), tiny_task.train_y, range(12), strict=True))

    def continue_without(removed):
        own = copy.deepcopy(model).train()
        optimizer = torch.optim.Adam(
            own.parameters(), lr=tiny_recipe.lr, weight_decay=tiny_recipe.weight_decay
        )
        torch.manual_seed(724)
        loader = torch.utils.data.DataLoader(data, tiny_recipe.batch_size, shuffle=True)
        for _ in range(tiny_recipe.epochs):
            for images, labels, positions in loader:
                optimizer.zero_grad()
                losses = nn.functional.cross_entropy(own(images), labels, reduction="none")
                (losses * (positions != removed)).mean().backward()
                optimizer.step()
        return losses_on_test(own, tiny_task) - before

    np.testing.assert_allclose(
        tau[member, checkpoint, removed], continue_without(removed), rtol=1e-7, atol=1e-10
    )
    np.testing.assert_allclose(
        tau.drift[member, checkpoint], continue_without(-1), rtol=1e-7, atol=1e-10
    )
    corrected = tda.remove_drift(tau)
    np.testing.assert_allclose(corrected, tau.values - tau.drift.values[:, :, None], atol=1e-12)
    assert corrected.attrs["drift"] == "removed" and "drift" not in corrected.coords


def test_loo_arguments_that_do_not_fit(tiny_task, tiny_recipe, tiny_posterior):
    own = Posterior.from_state_dicts(tiny_posterior.model, tiny_posterior.states)
    with pytest.raises(ValueError, match="recipe is None"):
        tda.loo(own, tiny_task)
    with pytest.raises(ValueError, match="posterior has no seeds"):
        tda.loo(own, tiny_task, tiny_recipe)
    seeded = Posterior.from_state_dicts(
        tiny_posterior.model, tiny_posterior.states, seeds=(1, 2, 3)
    )
    with pytest.raises(ValueError, match="build_model is None"):
        tda.loo(seeded, tiny_task, tiny_recipe)
    with pytest.raises(ValueError, match="keeps 1 checkpoints; the posterior has 2"):
        tda.loo(seeded, tiny_task, Recipe(epochs=1, keep_last=1))
    with pytest.raises(ValueError, match="the posterior was trained with"):
        tda.loo(tiny_posterior, tiny_task, Recipe(epochs=7, keep_last=2))
    with pytest.raises(ValueError, match="protocol is 'fast'"):
        tda.loo(tiny_posterior, tiny_task, protocol="fast")
    with pytest.raises(TypeError, match="posterior is a str"):
        tda.loo("posterior", tiny_task)
    with pytest.raises(TypeError, match="task is a str"):
        tda.loo(tiny_posterior, "task")
    with pytest.raises(ValueError, match="does not take inputs"):
        tda.grad_dot(tiny_posterior, make_task(channels=3))


# ---------------- one additional training step


def test_ats_is_one_step_of_the_members_own_adam(tiny_task, tiny_recipe):
    def build():
        return build_tiny_cnn().double()

    posterior = sample_posterior(build, tiny_task, tiny_recipe, seeds=(446,))
    tau = tda.ats(posterior, tiny_task)
    kept, optimizer = plain_loop(build, tiny_task, tiny_recipe, 446, torch.float64)
    model = build()
    model.load_state_dict(kept[-1])
    own = torch.optim.Adam(
        model.parameters(), lr=tiny_recipe.lr, weight_decay=tiny_recipe.weight_decay
    )
    own.load_state_dict(optimizer.state_dict())
    before = losses_on_test(model, tiny_task)
    nn.functional.cross_entropy(
        model(tiny_task.train_x[[8]].double()), tiny_task.train_y[[8]]
    ).backward()
    own.step()
    wanted = before - losses_on_test(model, tiny_task)
    np.testing.assert_allclose(tau[0, -1, 8], wanted, rtol=1e-6, atol=1e-10)
    assert tau.attrs["sign"] == "removal"


def test_released_ats_is_a_fresh_adam_with_upweighting_sign(tiny_task, tiny_posterior):
    tau = tda.ats(as_double(tiny_posterior), tiny_task, protocol="released", lr=1e-3)
    model = as_double(tiny_posterior).module(2, 1)
    before = losses_on_test(model, tiny_task)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=5e-3)
    nn.functional.cross_entropy(
        model(tiny_task.train_x[[1]].double()), tiny_task.train_y[[1]]
    ).backward()
    optimizer.step()
    wanted = losses_on_test(model, tiny_task) - before
    np.testing.assert_allclose(tau[2, 1, 1], wanted, rtol=1e-6, atol=1e-10)
    assert tau.attrs["sign"] == "upweighting"


def test_ats_without_adam_state_is_a_gradient_step_and_agrees_with_grad_dot(
    tiny_task, tiny_posterior
):
    """To first order a step of length lr takes lr times Grad-Dot off the loss."""
    posterior = as_double(tiny_posterior)
    small = tda.ats(posterior, tiny_task, lr=1e-6)
    assert small.attrs["step"] == "plain gradient step"
    assert float(abs(small.drift).max()) == 0
    dots = tda.grad_dot(posterior, tiny_task)
    np.testing.assert_allclose(small / 1e-6, dots, rtol=1e-3, atol=1e-5)


# ---------------- Grad-Dot and Grad-Cos


def test_gradient_methods_equal_a_plain_autograd_loop(tiny_task, tiny_posterior):
    posterior = as_double(tiny_posterior)
    dots, cosines = tda.grad_dot(posterior, tiny_task), tda.grad_cos(posterior, tiny_task)
    for member, checkpoint in posterior.samples:
        model = posterior.module(member, checkpoint)
        train = autograd_gradients(model, tiny_task.train_x.double(), tiny_task.train_y)
        test = autograd_gradients(model, tiny_task.test_x.double(), tiny_task.test_y)
        np.testing.assert_allclose(dots[member, checkpoint], train @ test.T, rtol=1e-9, atol=1e-12)
        normalised = nn.functional.normalize(train) @ nn.functional.normalize(test).T
        np.testing.assert_allclose(cosines[member, checkpoint], normalised, rtol=1e-9, atol=1e-12)


def test_float32_agrees_with_float64(tiny_task, tiny_posterior):
    """Stated tolerance: 1e-4 of the largest score."""
    for method in (tda.grad_dot, tda.grad_cos):
        single, double = (
            method(tiny_posterior, tiny_task),
            method(as_double(tiny_posterior), tiny_task),
        )
        np.testing.assert_allclose(single, double, rtol=0, atol=1e-4 * float(abs(double).max()))


class Shared(nn.Module):
    """One convolution called twice, tied weights."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1)
        self.head = nn.Linear(64, 4)

    def forward(self, images):
        return self.head(self.conv(self.conv(images)).flatten(1))


class Behind(nn.Module):
    """Use a weight also behind its layer's back, which hooks cannot see."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(64, 64)
        self.head = nn.Linear(64, 4)

    def forward(self, images):
        hidden = self.first(images.flatten(1)).tanh()
        return self.head(hidden + nn.functional.linear(hidden, self.first.weight))


ARCHITECTURES = {
    "strided": lambda: nn.Sequential(
        nn.Conv2d(1, 3, 3, stride=2, padding=1, bias=False),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(48, 4),
    ),
    "same": lambda: nn.Sequential(
        nn.Conv2d(1, 2, (2, 4), padding="same", dilation=(2, 1)),
        nn.GELU(),
        nn.Flatten(),
        nn.Linear(128, 4),
    ),
    "grouped": lambda: nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3, groups=2), nn.Flatten(), nn.Linear(64, 4)
    ),
    "circular": lambda: nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular"), nn.Flatten(), nn.Linear(128, 4)
    ),
    "norm": lambda: nn.Sequential(nn.Flatten(), nn.LayerNorm(64), nn.Linear(64, 4)),
    "tokens": lambda: nn.Sequential(
        nn.Flatten(1, 2), nn.Linear(8, 5), nn.Flatten(), nn.Linear(40, 4)
    ),
    "shared": Shared,
    "behind": Behind,
}
TAKEN_APART = {"strided", "same", "tokens"}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_any_architecture_gives_autograds_gradients(name, tiny_task):
    torch.manual_seed(0)
    model = ARCHITECTURES[name]().double()
    images, labels = tiny_task.train_x.double(), tiny_task.train_y
    method = gradient_method(model, images, labels)
    assert isinstance(method, LayerGradients) == (name in TAKEN_APART)
    blocks = method.loss_gradients(model, images, labels)
    wanted = autograd_gradients(model, images, labels)
    np.testing.assert_allclose(gram(blocks, blocks), wanted @ wanted.T, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(squared_norms(blocks), wanted.square().sum(1), rtol=1e-9)
    logits = method.logit_gradients(model, images[:2], torch.eye(4))
    rows = torch.cat([dense(block) for block in logits], dim=1)
    model_logits = model(images[:2])
    for row, (sample, logit) in enumerate((s, k) for s in range(2) for k in range(4)):
        gradient = flat(
            torch.autograd.grad(
                model_logits[sample, logit], list(model.parameters()), retain_graph=True
            )
        )
        np.testing.assert_allclose(rows[row].norm(), gradient.norm(), rtol=1e-9)


def test_a_model_without_trainable_parameters_is_refused(tiny_task):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 4)).requires_grad_(False)
    with pytest.raises(ValueError, match="no trainable parameter"):
        gradient_method(model, tiny_task.train_x, tiny_task.train_y)


# ---------------- influence


def dense_gauss_newton(model, images):
    """Return the mean over samples of J^T (diag(p) - p p^T) J, written out."""
    total = 0
    for image in images:
        logits = model(image[None])[0]
        jacobian = torch.stack(
            [
                flat(torch.autograd.grad(logit, list(model.parameters()), retain_graph=True))
                for logit in logits
            ]
        )
        p = logits.detach().softmax(0)
        total = total + jacobian.T @ (torch.diag(p) - torch.outer(p, p)) @ jacobian
    return total / len(images)


def test_gauss_newton_influence_equals_a_dense_float64_solve(tiny_task, tiny_posterior):
    tau = tda.influence(tiny_posterior, tiny_task, damping=5e-3)
    for member, checkpoint in ((0, 0), (2, 1)):
        model = tiny_posterior.module(member, checkpoint).double()
        train = autograd_gradients(model, tiny_task.train_x.double(), tiny_task.train_y)
        test = autograd_gradients(model, tiny_task.test_x.double(), tiny_task.test_y)
        curvature = dense_gauss_newton(model, tiny_task.train_x.double())
        curvature += 5e-3 * torch.eye(len(curvature))
        wanted = train @ torch.linalg.solve(curvature, test.T) / tiny_task.n_train
        error = float(
            abs(tau[member, checkpoint].values - wanted.numpy()).max() / abs(wanted).max()
        )
        assert error < 1e-7
    assert float(tau.residual.max()) < 1e-10


def test_influence_estimates_leave_one_out_on_a_convex_problem():
    """Multinomial logistic regression with L2, trained to its optimum with and without a sample."""
    task = make_task(n_train=60, n_test=10)
    strength = 1e-1

    def optimum(weights):
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).double()
        optimizer = torch.optim.LBFGS(
            model.parameters(),
            max_iter=500,
            tolerance_grad=1e-12,
            tolerance_change=0,
            line_search_fn="strong_wolfe",
        )

        def closure():
            optimizer.zero_grad()
            losses = nn.functional.cross_entropy(
                model(task.train_x.double()), task.train_y, reduction="none"
            )
            penalty = strength / 2 * sum(p.square().sum() for p in model.parameters())
            value = (losses * weights).mean() + penalty
            value.backward()
            return value

        optimizer.step(closure)
        return model

    base = optimum(torch.ones(60))
    posterior = Posterior.from_state_dicts(base, [[base.state_dict()]])
    # The penalty's curvature is the damping, and here Gauss-Newton is the Hessian.
    tau = tda.influence(posterior, task, damping=strength)[0, 0]
    by_hessian = tda.influence(posterior, task, solver="hessian", damping=strength)[0, 0]
    np.testing.assert_allclose(by_hessian, tau, rtol=1e-6, atol=1e-10)
    for removed in (0, 1, 2):
        # To first order: take away a thousandth of the sample. Then all of it: near the same.
        for share, allowed in ((1e-3, 1e-3), (1.0, 0.2)):
            weights = torch.ones(60)
            weights[removed] -= share
            change = losses_on_test(optimum(weights), task) - losses_on_test(base, task)
            largest = float(abs(tau[removed]).max())
            np.testing.assert_allclose(tau[removed], change / share, rtol=0, atol=allowed * largest)
            assert np.corrcoef(tau[removed], change)[0, 1] > 0.999


def test_the_hessian_is_refused_where_it_is_indefinite(tiny_task, tiny_posterior):
    with pytest.raises(
        ValueError, match="not defined at member .*smallest eigenvalue.*solver='ggn'"
    ):
        tda.influence(tiny_posterior, tiny_task, solver="hessian", damping=1e-6)


def test_hessian_influence_with_enough_damping_equals_a_dense_solve(tiny_task, tiny_posterior):
    tau = tda.influence(tiny_posterior, tiny_task, solver="hessian", damping=50.0)
    model = tiny_posterior.module(1, 1).double()
    images = tiny_task.train_x.double()
    size = sum(p.numel() for p in model.parameters())
    hessian = torch.stack(
        [
            hessian_product(model, images, tiny_task.train_y, row)
            for row in torch.eye(size, dtype=torch.float64)
        ]
    )
    train = autograd_gradients(model, images, tiny_task.train_y)
    test = autograd_gradients(model, tiny_task.test_x.double(), tiny_task.test_y)
    wanted = train @ torch.linalg.solve(hessian + 50 * torch.eye(size), test.T) / 12
    np.testing.assert_allclose(tau[1, 1], wanted, rtol=1e-7, atol=1e-12)


def test_lissa_equals_the_released_recursion_on_the_test_side(tiny_task, tiny_posterior):
    """One pass over batches of 8 in file order, scale inside the loop and once more at the end."""
    posterior = as_double(tiny_posterior)
    tau = tda.influence(posterior, tiny_task, protocol="released", damping=5e-3)
    model = posterior.module(0, 1)
    train = autograd_gradients(model, tiny_task.train_x.double(), tiny_task.train_y)
    test = autograd_gradients(model, tiny_task.test_x.double(), tiny_task.test_y)
    for position, gradient in enumerate(test):
        estimate = gradient
        for start in (0, 8):
            images = tiny_task.train_x[start : start + 8].double()
            labels = tiny_task.train_y[start : start + 8]
            product = hessian_product(model, images, labels, estimate)
            estimate = gradient + (1 - 5e-3) * estimate - product / 1e4
        wanted = -(train @ (estimate / 1e4))
        np.testing.assert_allclose(tau[0, 1, :, position], wanted, rtol=1e-9, atol=1e-15)
    assert tau.attrs["sign"] == "upweighting"


def test_released_influence_is_grad_dot_with_another_name():
    """MNIST3, 10 per class, as the paper sets it up: Pearson correlation below -0.999."""
    task = tda.load_task("mnist3", per_class=10)
    build = tda.model_builder("cnn2", channels=1)
    posterior = sample_posterior(build, task, Recipe(keep_last=1), seeds=tda.PAPER_SEEDS[:1])
    influence = tda.influence(posterior, task, protocol="released").values.ravel()
    dots = tda.grad_dot(posterior, task, protocol="released").values.ravel()
    assert np.corrcoef(influence, dots)[0, 1] < -0.999


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"solver": "newton"}, "solver is 'newton'; it must be one of"),
        ({"damping": 0.0}, "damping is 0.0; it must be a positive number"),
        ({"damping": float("nan")}, "damping is nan"),
        ({"solver": "lissa"}, "'lissa' belongs to 'released'"),
        ({"solver": "ggn", "protocol": "released"}, "'lissa' belongs to 'released'"),
    ],
)
def test_influence_arguments_that_do_not_fit(options, message, tiny_task, tiny_posterior):
    with pytest.raises(ValueError, match=message):
        tda.influence(tiny_posterior, tiny_task, **options)


# ---------------- invariants of all


@pytest.fixture(scope="module")
def all_scores(tiny_task, tiny_posterior):
    return {
        (method, protocol): tda.attribute(tiny_posterior, tiny_task, method, protocol=protocol)
        for method in tda.METHODS
        for protocol in ("paired", "released")
    }


@pytest.mark.parametrize("protocol", ["paired", "released"])
@pytest.mark.parametrize("method", tda.METHODS)
def test_scores_are_labelled(method, protocol, all_scores, tiny_task):
    tau = all_scores[method, protocol]
    assert dict(tau.sizes) == {"member": 3, "checkpoint": 2, "train": 12, "test": 7}
    assert tau.member.values.tolist() == [446, 724, 571]
    assert tau.checkpoint.values.tolist() == [3, 4]
    assert tau.train.values.tolist() == tiny_task.train_index.tolist()
    assert tau.test_label.values.tolist() == tiny_task.test_y.tolist()
    assert (tau.attrs["method"], tau.attrs["protocol"]) == (method, protocol)
    upweighting = protocol == "released" and method in ("ats", "influence")
    assert tau.attrs["sign"] == ("upweighting" if upweighting else "removal")
    assert bool(np.isfinite(tau).all())


@pytest.mark.parametrize("protocol", ["paired", "released"])
@pytest.mark.parametrize("method", tda.METHODS)
def test_sign_where_the_answer_is_known(method, protocol):
    """A test image that is also a training image: leaving its twin out must raise its loss."""
    task = make_task(n_train=6, n_test=6)
    twin = tda.Task(
        "twin",
        task.train_x,
        task.train_y,
        task.train_index,
        task.train_x[:3].clone(),
        task.train_y[:3],
        task.test_index[:3],
        3,
    )
    recipe = Recipe(epochs=30, batch_size=6, lr=1e-2, keep_last=1)
    posterior = sample_posterior(build_tiny_cnn, twin, recipe, seeds=(446, 724, 571, 296))
    tau = tda.attribute(posterior, twin, method, protocol=protocol)
    if "drift" in tau.coords:
        tau = tda.remove_drift(tau)
    own = tda.removal_signed(tau).mean(["member", "checkpoint"]).values.diagonal()
    assert (own > 0).all()


@pytest.mark.parametrize("method", ["ats", "influence", "grad_dot", "grad_cos"])
def test_permuting_samples_permutes_scores(method, tiny_task, tiny_posterior, all_scores):
    train = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    test = torch.randperm(7, generator=torch.Generator().manual_seed(2))
    permuted = tda.attribute(tiny_posterior, tiny_task.select(train, test), method)
    wanted = all_scores[method, "paired"][:, :, train, test]
    np.testing.assert_allclose(permuted, wanted, rtol=1e-3, atol=1e-5 * float(abs(wanted).max()))


@pytest.mark.parametrize("method", tda.METHODS)
def test_selecting_a_member_gives_its_scores(method, tiny_task, tiny_posterior, all_scores):
    alone = tda.attribute(tiny_posterior.select([1]), tiny_task, method)
    together = all_scores[method, "paired"][1]
    if method in ("loo", "ats"):
        assert np.array_equal(alone[0], together)
    else:  # Kernels may share cores differently, and sum in another order.
        np.testing.assert_allclose(alone[0], together, atol=1e-5 * float(abs(together).max()))


@pytest.mark.parametrize("method", ["influence", "grad_dot", "grad_cos"])
def test_a_duplicated_training_point_has_its_twins_scores(method, tiny_task, tiny_posterior):
    double = tda.Task(
        "double",
        torch.cat([tiny_task.train_x, tiny_task.train_x[:1]]),
        torch.cat([tiny_task.train_y, tiny_task.train_y[:1]]),
        torch.cat([tiny_task.train_index, torch.tensor([999])]),
        tiny_task.test_x,
        tiny_task.test_y,
        tiny_task.test_index,
        3,
    )
    tau = tda.attribute(tiny_posterior, double, method)
    np.testing.assert_allclose(
        tau[:, :, 0], tau[:, :, -1], rtol=1e-4, atol=1e-6 * float(abs(tau).max())
    )


def test_more_test_samples_than_a_chunk_change_nothing(tiny_posterior):
    task = make_task(n_test=230)
    for method in ("influence", "grad_cos"):
        whole = tda.attribute(tiny_posterior, task, method)
        part = tda.attribute(tiny_posterior, task.select(test=torch.arange(95, 230)), method)
        np.testing.assert_allclose(
            whole[..., 95:], part, rtol=1e-3, atol=1e-5 * float(abs(part).max())
        )


def test_unknown_method_and_missing_attributes():
    with pytest.raises(ValueError, match="method is 'lo'; it must be one of"):
        tda.attribute(None, None, "lo")
    with pytest.raises(ValueError, match="no coordinate 'drift'"):
        tda.remove_drift(xr.DataArray([1.0]))
    with pytest.raises(ValueError, match="scores have sign None"):
        tda.removal_signed(xr.DataArray([1.0]))
    with pytest.raises(ValueError, match="scores has the variance 0"):
        tda.drift_share(xr.DataArray(np.ones((2, 2)), dims=("train", "test")))


def test_drift_share_of_known_scores():
    rng = np.random.default_rng(0)
    common, own = rng.normal(size=(1, 500)), rng.normal(size=(400, 500))
    tau = xr.DataArray(3 * common + own, dims=("train", "test"))
    assert tda.drift_share(tau) == pytest.approx(0.9, abs=0.03)


# ---------------- from_state_dicts


@pytest.mark.parametrize(
    ("states", "seeds", "message"),
    [
        ([], None, "states is empty"),
        ([[]], None, "states is empty"),
        (lambda s: [[s], [s, s]], None, "all must have the same number"),
        (
            lambda s: [[{"0.weight": s["0.weight"]}]],
            None,
            r"states\[0\]\[0\] does not fit the model",
        ),
        (
            lambda s: [[s], [{n: v * torch.nan for n, v in s.items()}]],
            None,
            r"states\[1\]\[0\] holds NaN",
        ),
        (lambda s: [[s]], (1, 2), "seeds has 2 values; states asks for 1"),
    ],
)
def test_from_state_dicts_checks(states, seeds, message):
    model = build_tiny_cnn()
    states = states(model.state_dict()) if callable(states) else states
    with pytest.raises(ValueError, match=message):
        Posterior.from_state_dicts(model, states, seeds=seeds)


def test_from_state_dicts_copies_what_it_gets(tiny_task):
    model = build_tiny_cnn()
    posterior = Posterior.from_state_dicts(model, [[model.state_dict()]])
    before = posterior.losses(tiny_task)
    with torch.no_grad():
        model[0].weight.zero_()
    assert posterior.losses(tiny_task).equals(before)


# ---------------- some training samples only


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("method", "options"),
    [
        *((method, {"protocol": "paired"}) for method in tda.METHODS),
        *((method, {"protocol": "released"}) for method in ("loo", "ats", "influence")),
        ("influence", {"solver": "hessian", "damping": 50.0}),
    ],
)
def test_scores_of_some_samples_are_those_of_all(method, options, weighted, tiny_task):
    """Whatever is left out of the scores is still trained on, and in the curvature."""
    recipe = tda.Recipe(epochs=2, batch_size=4, keep_last=1)
    weights = None
    if weighted:
        weights = torch.linspace(0.5, 1.5, tiny_task.n_train)[None]
    posterior = tda.sample_posterior(
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 4)),
        tiny_task,
        recipe,
        (446,),
        weights=weights,
    )
    positions = [3, 0]
    compute = getattr(tda, method)
    whole = compute(posterior, tiny_task, **options)
    some = compute(posterior, tiny_task.attribute_only(positions), **options)
    np.testing.assert_allclose(some, whole[:, :, positions], rtol=1e-5, atol=1e-7)
    for name in ("train", "train_label"):
        np.testing.assert_array_equal(some[name], whole[name][positions])
