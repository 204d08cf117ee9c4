"""Which layer of a model fails, reads values, mixes a batch, or has no second derivative."""

import pytest
import torch
from torch import nn

from tda_utils.models import probes
from tda_utils.models.probes import (
    check_alone_in_training,
    check_each_by_itself,
    check_twice_differentiable,
    failing_layer,
    layer_of,
    reads_values,
)
from tests.refusals import refused
from tests.zoo.networks import OnceSquare


class Branch(nn.Module):
    """Goes another way where a function of its input says so."""

    def __init__(self, decide):
        super().__init__()
        self.decide, self.one, self.other = decide, nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, values):
        return self.one(values) if self.decide(values) else self.other(values)


class Function(nn.Module):
    """A layer without parameters."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *values, **named):
        return self.function(*values, **named)


def around(function):
    """Return a model with a layer in its middle, of the name '1'."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), Function(function), nn.Linear(5, 3)).eval()


INPUTS = torch.rand(7, 4, generator=torch.Generator().manual_seed(1))

MIXING = {
    "mean": lambda h: h - h.mean(0),
    "a little": lambda h: h - 1e-7 * h.mean(0),
    "first": lambda h: h - h[:1],
    "neighbour": lambda h: h + h.roll(1, 0),
    "softmax": lambda h: h.softmax(0),
    "size": lambda h: h / len(h),
    "largest": lambda h: h / h.abs().max(),
    "many": lambda h: h - h.mean(0) if len(h) == len(INPUTS) else h,
    "branch": lambda h: h if h.abs().sum() > 1.5 * h[0].abs().sum() else -h,
}
ALONE = {
    "itself": lambda h: h - h.mean(1, keepdim=True),
    "turned": lambda h: h.T.tanh().T,
    "there and back": lambda h: h.flip(0).sin().flip(0),
    "each": lambda h: torch.stack([row if row.mean() > 0 else -row for row in h]),
    "NaN": lambda h: h / 0 - h / 0,
}


@pytest.mark.parametrize("function", MIXING.values(), ids=MIXING)
def test_a_layer_that_mixes_a_batch_is_named(function):
    refused(
        ValueError,
        lambda: check_each_by_itself(around(function), INPUTS),
        "model",
        "alone",
        "layer '1' (Function)",
        "batch",
    )


@pytest.mark.parametrize("function", ALONE.values(), ids=ALONE)
def test_a_model_that_treats_each_sample_by_itself_passes(function):
    check_each_by_itself(around(function), INPUTS)


class Centring(nn.Module):
    """Batch normalisation written by oneself: by the batch in training, not in evaluation."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(5))

    def forward(self, hidden):
        if not self.training:
            return hidden - self.mean
        self.mean = 0.9 * self.mean + 0.1 * hidden.mean(0).detach()
        return hidden - hidden.mean(0)


def test_a_layer_that_mixes_a_batch_in_training_only_is_named():
    model = nn.Sequential(nn.Linear(4, 5), Centring(), nn.Linear(5, 3)).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    check_each_by_itself(model, INPUTS)
    refused(
        ValueError,
        lambda: check_alone_in_training(model, INPUTS, "this cannot be"),
        "batch",
        "layer '1' (Centring)",
        "this cannot be",
    )
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not model.training


@pytest.mark.parametrize(
    "layer",
    [
        nn.Tanh(),
        nn.Dropout(0.5),
        nn.LayerNorm(5),
        nn.utils.parametrizations.spectral_norm(nn.Linear(5, 5)),  # It turns with each call.
        nn.AlphaDropout(0.5),  # It draws, which is said elsewhere.
    ],
)
def test_a_layer_that_trains_on_each_sample_by_itself_passes(layer):
    check_alone_in_training(nn.Sequential(nn.Linear(4, 5), layer), INPUTS, "this cannot be")


def test_what_mixes_between_two_layers_is_named_by_what_is_around_it():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.head = nn.Linear(4, 4), nn.Linear(4, 3)

        def forward(self, values):
            hidden = self.first(values)
            return self.head(hidden - hidden.mean(0))

    check = lambda model: refused(ValueError, lambda: check_each_by_itself(model, INPUTS))  # noqa: E731
    assert "the model itself (Net)" in check(Net())
    nested = nn.Sequential(nn.Identity(), nn.Sequential(nn.Identity(), Net()))
    assert "layer '1.1' (Net)" in check(nested)


def test_a_model_that_answers_otherwise_each_time_is_named():
    class Remembering(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("level", torch.zeros(5))

        def forward(self, values):
            self.level = self.level + values.mean(0)
            return values - self.level

    for layer in (Remembering(), Function(lambda h: nn.functional.dropout(h, 0.5))):
        model = nn.Sequential(nn.Linear(4, 5), layer, nn.Linear(5, 3))
        before = torch.get_rng_state()
        sentence = refused(ValueError, lambda own=model: check_each_by_itself(own, INPUTS), "model")
        assert f"layer '1' ({type(layer).__name__})" in sentence and "each time" in sentence
        assert torch.equal(before, torch.get_rng_state())


def test_models_of_one_sample_at_a_time_are_refused():
    one = around(lambda h: h.view(1, 5))
    refused(ValueError, lambda: check_each_by_itself(one, INPUTS), "one sample", 4, "invalid")
    first = nn.Sequential(nn.Linear(4, 3), Function(lambda h: h[:1]))
    refused(ValueError, lambda: check_each_by_itself(first, INPUTS), "(1, 3)", "4 samples")


def test_samples_that_differ_are_found_among_many_alike():
    """Of samples alike a mean is that of each, so others must be found, in either split."""
    alike = INPUTS[:1].expand(30, 4)
    model = around(MIXING["mean"])
    check_each_by_itself(model, alike)
    for splits in ((alike, INPUTS), (torch.cat([alike, INPUTS]),)):
        refused(ValueError, lambda own=splits: check_each_by_itself(model, *own), "layer '1'")


def test_a_branch_that_few_samples_take_is_found():
    """Where a model reads values, many samples are looked at."""
    inputs = torch.rand(60, 4, generator=torch.Generator().manual_seed(2))
    rare = Branch(lambda values: values.mean() > inputs.mean(1).topk(2).values[-1])
    with torch.no_grad():
        rare.other.weight.copy_(2 * rare.one.weight)
    refused(ValueError, lambda: check_each_by_itself(rare, inputs), "the model itself (Branch)")


def test_a_model_of_one_type_of_number_is_looked_at_in_that_type():
    only = nn.Sequential(
        Function(lambda h: h.float()), nn.Linear(4, 3), Function(lambda h: h - h.mean(0))
    )
    sentence = refused(ValueError, lambda: check_each_by_itself(only, INPUTS), "layer '2'")
    assert "mixes" in sentence
    check_each_by_itself(only[:2], INPUTS)


@pytest.mark.parametrize(
    ("function", "read"),
    [
        (torch.tanh, False),
        (lambda h: torch.where(h > 0, h, -h), False),
        (lambda h: h.reshape(len(h), -1), False),
        (lambda h: h if h.sum() > 0 else -h, True),
        (lambda h: h * int(h.sum()), True),
        (lambda h: h * h.sum().item(), True),
        (lambda h: h + sum(h.tolist()[0]), True),
        (lambda h: h[h[:, 0] > -9], True),
        (lambda h: h * float(h.detach().numpy().sum()), True),
    ],
)
def test_reading_values_is_noticed(function, read):
    assert reads_values(around(function), INPUTS) == read


def test_the_innermost_layer_that_fails_is_named():
    def fail(values):
        raise ArithmeticError("no")

    inner = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.Tanh(), Function(fail)))
    problem, name = failing_layer(inner, lambda: inner(INPUTS))
    assert isinstance(problem, ArithmeticError) and name == "1.1"
    assert layer_of(inner, name) == "layer '1.1' (Function)"
    fine = around(torch.tanh)
    wanted, found = fine(INPUTS), []
    assert failing_layer(fine, lambda: found.append(fine(INPUTS))) is None
    assert torch.equal(found[0], wanted)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in fine.modules())


class Hidden(torch.autograd.Function):
    """Its backward pass does not say that it depends on the values."""

    @staticmethod
    def forward(ctx, values):
        ctx.values = values.detach()
        return values.square()

    @staticmethod
    def backward(ctx, error):
        return 2 * ctx.values * error


@pytest.mark.parametrize("function", [OnceSquare.apply, Hidden.apply], ids=["once", "hidden"])
def test_a_layer_without_a_second_derivative_is_named(function):
    """PyTorch itself gives a wrong one without a word."""
    model = around(function)
    sentence = refused(
        ValueError,
        lambda: check_twice_differentiable(model, INPUTS, "solver is 'hessian'"),
        "solver is 'hessian'",
        "second derivatives",
        "layer '1' (Function)",
    )
    assert "twice" in sentence or "differences" in sentence
    assert all(p.grad is None for p in model.parameters())


def test_the_second_derivative_of_weight_normalisation_is_refused():
    """Oracle: the Hessian is symmetric, and PyTorch's is not."""
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(4, 3)).double()
    parameters = list(layer.parameters())
    rows = torch.autograd.grad(layer(INPUTS.double()).square().sum(), parameters, create_graph=True)
    first = torch.cat([row.flatten() for row in rows])
    hessian = torch.stack(
        [
            torch.cat(
                [
                    part.flatten()
                    for part in torch.autograd.grad(
                        one, parameters, retain_graph=True, materialize_grads=True
                    )
                ]
            )
            for one in first
        ]
    )
    # Where PyTorch has mended it, the check may go.
    assert not torch.allclose(hessian, hessian.T)
    model = nn.Sequential(nn.Flatten(), layer)
    refused(
        ValueError,
        lambda: check_twice_differentiable(model, INPUTS, "solver is 'hessian'"),
        "layer '1.parametrizations.weight.0' (_WeightNorm)",
    )


@pytest.mark.parametrize(
    "function",
    [torch.tanh, torch.relu, lambda h: h * 0 + 1, lambda h: (h * 1e-9).relu(), torch.exp],
)
def test_layers_that_are_twice_differentiable_pass(function):
    check_twice_differentiable(around(function), INPUTS, "")
    check_twice_differentiable(nn.Sequential(nn.Linear(4, 3)), INPUTS, "")


@pytest.mark.parametrize("name", [name for name in MIXING if name != "a little"])
def test_a_large_model_is_looked_at_in_its_own_type_of_number_first(name, monkeypatch):
    monkeypatch.setattr(probes, "LARGE", 0)
    model = around(MIXING[name])
    refused(ValueError, lambda: check_each_by_itself(model, INPUTS), "layer '1' (Function)")
    for function in ALONE.values():
        check_each_by_itself(around(function), INPUTS)


def test_of_a_large_model_float64_has_the_last_word(monkeypatch):
    """Rounding that a layer blows up is no mixing."""
    seen = []

    def blown_up(hidden):
        seen.append(hidden.dtype)
        # What a batch of another size would do to the last digits.
        return hidden * (1 + len(hidden) * 1e4 * torch.finfo(hidden.dtype).eps)

    monkeypatch.setattr(probes, "LARGE", 0)
    monkeypatch.setattr(probes, "_alike", lambda one, other: torch.allclose(one, other, rtol=1e-6))
    check_each_by_itself(around(blown_up), INPUTS)
    assert {torch.float32, torch.float64} == set(seen)
