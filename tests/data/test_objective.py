"""What an objective takes, measures and refuses, alone, in a task and before a model is trained."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import tda_utils as tda
from tda_utils import Objective, Posterior, Recipe, Task, sample_posterior
from tda_utils.engine.modules import ModuleNetwork
from tda_utils.engine.training import network_for
from tda_utils.models import CNN2L
from tests.refusals import refused

ROWS = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)


def task_of(objective, targets=None, n=4):
    targets = ROWS[:, 0] if targets is None else targets
    return Task.from_arrays(ROWS[:n], targets[:n], ROWS[n:], targets[n:], objective=objective)


def losses_of(objective, targets=None, outputs=1):
    layer = nn.Linear(3, outputs)
    posterior = Posterior.from_state_dicts(layer, [[layer.state_dict()]])
    return posterior.losses(task_of(objective, targets))


@pytest.mark.parametrize(
    ("arguments", "error", "facts"),
    [
        (("hinge",), ValueError, ["loss is 'hinge'", "'mse'", "callable"]),
        ((3,), ValueError, ["loss is 3", "'bce'", "callable"]),
        (("mse", "score"), ValueError, ["measure is 'score'", "'margin'", "callable"]),
        (("mse", "margin"), ValueError, ["measure is 'margin'", "'mse'", "'loss'", "callable"]),
        (("mse", "loss", [1.0]), ValueError, ["class_weights", "'cross_entropy'", "'mse'"]),
        (("bce", "loss", None, 0.1), ValueError, ["label_smoothing is 0.1", "'cross_entropy'"]),
        (("cross_entropy", "loss", 2.0), TypeError, ["class_weights is 2.0", "sequence"]),
        (("cross_entropy", "loss", [1, -1]), ValueError, ["class weight is -1", "zero"]),
        (("cross_entropy", "loss", None, 1.0), ValueError, ["label_smoothing is 1.0", "below 1"]),
        (("cross_entropy", "loss", None, -0.1), ValueError, ["label_smoothing is -0.1"]),
    ],
)
def test_an_objective_that_is_none_is_named(arguments, error, facts):
    refused(error, lambda: Objective(*arguments), *facts)


@pytest.mark.parametrize(
    ("objective", "targets", "error", "facts"),
    [
        ("mse", ROWS[:, 0], TypeError, ["objective is 'mse'", "Objective('mse')"]),
        (Objective("mse"), ROWS[:, 0] * np.nan, ValueError, ["train_y", "NaN", "sample 0"]),
        (Objective("mse"), ROWS[:, :2], ValueError, ["outputs", (1, 1), (1, 2), "one output"]),
        (Objective("bce"), ROWS[:, 0] * 9, ValueError, ["train_y", "from", "0 to 1"]),
        (Objective("bce"), list("abcdef"), TypeError, ["train_y", "numbers", "<U1"]),
        (Objective(), ROWS[:, 0], TypeError, ["train_y", "integers", "float32"]),
        (Objective(), [0, 1, 0, 1, 0, 1], ValueError, ["one logit", "'bce'"]),
    ],
)
def test_targets_that_do_not_go_with_an_objective_are_named(objective, targets, error, facts):
    refused(error, lambda: losses_of(objective, targets), *facts)


def test_weights_are_one_a_logit():
    call = lambda: losses_of(Objective(class_weights=[1, 2]), [0, 1, 0, 1, 0, 1], 3)  # noqa: E731
    refused(ValueError, call, "class_weights has 2", "3 logits")


def test_targets_of_two_splits_have_one_shape():
    splits = (ROWS[:4], ROWS[:4, :2], ROWS[4:], ROWS[4:, :1])
    call = lambda: Task.from_arrays(*splits, objective=Objective("mse"))  # noqa: E731
    refused(ValueError, call, "test_y", (1,), "train_y", (2,))


class Changing:
    """Gives something else in each call."""

    calls = 0

    def __call__(self, outputs, targets):
        self.calls += 1
        return (outputs[:, 0] - targets) ** 2 + self.calls


@pytest.mark.parametrize("argument", ["objective", "measure"])
@pytest.mark.parametrize(
    ("function", "facts"),
    [
        (Changing(), ["second call", "same"]),
        (
            lambda f, y: (f[:, 0] - y).square() / f.square().sum(),
            ["in company than alone", "no other"],
        ),
        (lambda f, y: (f[:, 0] - y).square().mean(), ["shape ()", "(3,)"]),
        (lambda f, y: (f - y[:, None]).square(), ["shape (3, 1)", "(3,)"]),
        (lambda f, y: f[:, 0].detach() - y, ["do not depend", "differentiable"]),
        (lambda f, y: f[:, 0] * torch.nan, ["nan", "finite"]),
        (lambda f, y: (f[:, 0] > y).long(), ["torch.int64", "real"]),
        (lambda f, y: f[:, 7], ["fails", (3, 1)]),
        (lambda f: f, ["fails", "argument"]),
        (lambda f, y: torch.rand(len(f)) + f[:, 0], ["second call"]),
    ],
)
def test_a_callable_that_is_no_objective_is_named_before_anything_is_computed(
    function, facts, argument
):
    objective = Objective(function) if argument == "objective" else Objective("mse", function)
    refused(ValueError, lambda: losses_of(objective), argument, *facts)
    train = lambda: sample_posterior(  # noqa: E731
        lambda: nn.Linear(3, 1), task_of(objective), Recipe(epochs=1, keep_last=1), seeds=[1]
    )
    refused(ValueError, train, argument, *facts)


def test_to_try_a_callable_draws_nothing_from_the_global_state():
    noisy = Objective(lambda f, y: torch.rand(len(f)) + f[:, 0])
    state = torch.get_rng_state()
    call = lambda: noisy.check_outputs(torch.ones(3, 1), torch.ones(3), 1)  # noqa: E731
    refused(ValueError, call, "second call")
    assert torch.equal(state, torch.get_rng_state())


def test_a_callable_that_fails_in_training_is_no_fault_of_the_model():
    """It sees other numbers there than where it was tried."""

    def strict(outputs, targets):
        if bool((outputs.abs() > 50).any()):
            raise ValueError("too large")
        return (outputs[:, 0] - targets).square()

    recipe = Recipe(epochs=3, keep_last=1, lr=1e3)
    call = lambda: sample_posterior(  # noqa: E731
        lambda: nn.Linear(3, 1), task_of(Objective(strict)), recipe, seeds=[1]
    )
    refused(ValueError, call, "objective fails", "too large")


def test_logits_and_margins_are_what_they_are_said_to_be():
    logits, labels = torch.tensor([[2.0, 1.0, -1.0]]), torch.tensor([1])
    p = logits.softmax(1)[0, 1]
    assert Objective(measure="logit").measured(logits, labels).item() == 1
    margin = Objective(measure="margin").measured(logits, labels)
    np.testing.assert_allclose(margin, [(p / (1 - p)).log()], rtol=1e-6)
    bits = torch.tensor([[1.0, 0.0, 0.0]])
    np.testing.assert_allclose(Objective("bce", "logit").measured(logits, bits), [2 / 3])
    np.testing.assert_allclose(
        Objective("bce", "margin").measured(logits, bits), [2 / 3], rtol=1e-6
    )
    own = Objective("mse", lambda f, y: f[:, 2])
    assert own.measured(logits, bits).item() == -1 and own.losses(logits, bits).shape == (1,)


def test_a_task_remembers_its_objective_and_cross_entropy_changes_nothing():
    labels = [0, 1, 2, 0, 1, 2]
    plain, own = task_of(Objective(), labels), task_of(Objective(label_smoothing=0.1), labels)
    assert plain.fingerprint() == replace(plain).fingerprint() != own.fingerprint()
    assert plain.training_fingerprint() != own.training_fingerprint()
    measured = task_of(Objective(measure="margin"), labels)
    assert len({task.fingerprint() for task in (plain, own, measured)}) == 3
    assert copy.deepcopy(own).objective == own.objective
    assert plain.select(train=[0, 1]).objective.is_plain
    assert not own.select(test=[0]).attribute_only(2).objective.is_plain


def test_targets_of_several_numbers_are_no_coordinate_of_scores():
    layer = nn.Linear(3, 2)
    posterior = Posterior.from_state_dicts(layer, [[layer.state_dict()]])
    scores = tda.grad_dot(posterior, task_of(Objective("mse"), ROWS[:, :2]))
    assert "train_label" not in scores.coords and scores.train.values.tolist() == [0, 1, 2, 3]
    layer = nn.Linear(3, 1)
    posterior = Posterior.from_state_dicts(layer, [[layer.state_dict()]])
    scores = tda.grad_dot(posterior, task_of(Objective("mse")))
    np.testing.assert_array_equal(scores.test_label, ROWS[4:, 0])
    assert scores.attrs["objective"].startswith("mse")


def test_outputs_without_a_second_dimension_are_one_a_sample():
    class Flat(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 1)

        def forward(self, rows):
            return self.layer(rows)[:, 0]

    model = Flat()
    state = model.state_dict()
    plain = Posterior.from_state_dicts(
        model.layer, [[{name.removeprefix("layer."): v for name, v in state.items()}]]
    )
    task = task_of(Objective("mse"))
    for method, options in (("grad_dot", {}), ("influence", {"damping": 0.1})):
        found = tda.attribute(Posterior.from_state_dicts(model, [[state]]), task, method, **options)
        wanted = tda.attribute(plain, task, method, **options)
        np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_compiled_passes_train_cross_entropy_alone():
    images, build = torch.zeros(2, 1, 28, 28), CNN2L
    assert not isinstance(network_for(build(), images, torch.float32), ModuleNetwork)
    for objective in (Objective(label_smoothing=0.1), Objective(measure="logit"), Objective("mse")):
        network = network_for(build(), images, torch.float32, objective)
        assert isinstance(network, ModuleNetwork)


def test_the_compiled_passes_give_gradients_of_any_objective():
    task = tda.load_task("mnist3", per_class=10, test_per_class=1).select(train=[0, 11, 22])
    torch.manual_seed(0)
    model = CNN2L()
    plain = nn.Sequential(
        model.conv1, nn.GELU(), nn.MaxPool2d(2), model.conv2, nn.GELU(), nn.MaxPool2d(2),
        nn.Flatten(), model.fc1, nn.GELU(), model.fc2,
    )  # fmt: skip
    task = replace(task, objective=Objective(label_smoothing=0.1, measure="margin"))
    fused, by_layer = (
        Posterior.from_state_dicts(one, [[one.state_dict()]]) for one in (model, plain)
    )
    for method in ("grad_dot", "influence"):
        found, wanted = (tda.attribute(one, task, method) for one in (fused, by_layer))
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4 * float(abs(wanted).max()))
