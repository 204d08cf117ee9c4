"""What holds of every method: labels, signs, and invariances."""

import copy
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

import tda_utils as tda
from tda_utils import Posterior, Recipe, Task, sample_posterior
from tda_utils.experiments.names import PAIRED_ONLY
from tests.refusals import refused
from tests.tiny import ATTRIBUTIONS, NO_IMAGES, SHORT, build_tiny_cnn, make_task


@pytest.fixture(scope="module")
def all_scores(tiny_task, tiny_posterior):
    return {
        (method, protocol): tda.attribute(tiny_posterior, tiny_task, method, protocol=protocol)
        for method, protocol in ATTRIBUTIONS
    }


@pytest.mark.parametrize(("method", "protocol"), ATTRIBUTIONS)
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


@pytest.fixture(scope="module")
def twins():
    """Return four members, and a task whose three test images are training images, too."""
    task = make_task(n_train=6, n_test=6)
    task = replace(
        task,
        test_x=task.train_x[:3].clone(),
        test_y=task.train_y[:3],
        test_index=task.test_index[:3],
    )
    recipe = Recipe(epochs=30, batch_size=6, lr=1e-2, keep_last=1)
    return sample_posterior(build_tiny_cnn, task, recipe, seeds=(446, 724, 571, 296)), task


@pytest.mark.parametrize(("method", "protocol"), ATTRIBUTIONS)
def test_sign_where_the_answer_is_known(method, protocol, twins):
    """Leaving out the twin of a test image must raise its loss."""
    tau = tda.attribute(*twins, method, protocol=protocol)
    if "drift" in tau.coords:
        tau = tda.remove_drift(tau)
    own = tda.removal_signed(tau).mean(["member", "checkpoint"]).values.diagonal()
    assert (own > 0).all()


def test_the_released_protocol_is_refused_where_there_is_none(tiny_task, tiny_posterior):
    attribute = partial(tda.attribute, tiny_posterior, tiny_task, protocol="released")
    for method in PAIRED_ONLY:
        refused(
            ValueError, partial(attribute, method), "protocol is 'released'", method, "'paired'"
        )


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


def test_methods_and_options_that_there_are_not(tiny_task, tiny_posterior):
    attribute = partial(tda.attribute, tiny_posterior, tiny_task)
    refused(ValueError, lambda: attribute("lo"), "method is 'lo'", *map(repr, tda.METHODS))
    refused(TypeError, lambda: attribute("grad_dot", damping=1.0), "damping", "'grad_dot'")


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("method", "options"),
    [
        *((method, {"protocol": "paired"}) for method in tda.METHODS),
        *((method, {"protocol": "released"}) for method in ("loo", "ats", "influence")),
        ("influence", {"solver": "hessian", "damping": 50.0}),
        ("influence", {"solver": "ekfac"}),
    ],
)
def test_scores_of_some_samples_are_those_of_all(method, options, weighted, tiny_task):
    """Whatever is left out of the scores is still trained on, and in the curvature."""
    recipe = Recipe(epochs=2, batch_size=4, keep_last=1)
    weights = torch.linspace(0.5, 1.5, tiny_task.n_train)[None] if weighted else None

    def build():
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 4))

    posterior = sample_posterior(build, tiny_task, recipe, (446,), weights=weights)
    positions = [3, 0]
    whole = tda.attribute(posterior, tiny_task, method, **options)
    some = tda.attribute(posterior, tiny_task.attribute_only(positions), method, **options)
    rounding = 1e-6 * float(abs(whole).max())
    np.testing.assert_allclose(some, whole[:, :, positions], rtol=1e-5, atol=rounding)
    for name in ("train", "train_label"):
        np.testing.assert_array_equal(some[name], whole[name][positions])


# ---------------- inputs that are no images


@pytest.fixture(scope="module", params=NO_IMAGES, ids=["table", "sequences"])
def twice(request):
    """Return posterior and task, and both again with the same numbers as images of one row."""
    build, make = request.param
    task = make()
    shape = task.train_x.shape[1:]

    def build_for_images():
        return nn.Sequential(nn.Flatten(), nn.Unflatten(1, shape), build())

    def as_images(tensor):
        return tensor.reshape(len(tensor), 1, 1, -1)

    images = Task.from_arrays(
        as_images(task.train_x), task.train_y, as_images(task.test_x), task.test_y
    )
    return [
        (sample_posterior(model, data, SHORT, seeds=[1, 2]), data)
        for model, data in ((build, task), (build_for_images, images))
    ]


@pytest.mark.parametrize(("method", "protocol"), ATTRIBUTIONS)
def test_every_method_takes_inputs_that_are_no_images(twice, protocol, method):
    """The oracle: a model that takes images of one row, and undoes that."""
    scores = [tda.attribute(*one, method, protocol=protocol) for one in twice]
    assert dict(scores[0].sizes) == {"member": 2, "checkpoint": 2, "train": 9, "test": 5}
    assert float(abs(scores[0]).max()) > 0
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-3, atol=1e-6)


# ---------------- batch normalisation


def without_normalisation(model):
    """The same function of one image in evaluation mode, with the statistics as constants."""
    conv, norm, *rest = copy.deepcopy(model).eval()

    class Constant(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight, self.bias = norm.weight, norm.bias
            self.mean, self.var, self.eps = norm.running_mean, norm.running_var, norm.eps

        def forward(self, x):
            scale = self.weight / (self.var + self.eps).sqrt()
            return (x - self.mean[:, None, None]) * scale[:, None, None] + self.bias[:, None, None]

    return nn.Sequential(conv, Constant(), *rest)


@pytest.mark.parametrize("method", ["grad_dot", "grad_cos", "influence"])
def test_gradients_take_running_statistics_as_constants(normalised, tiny_task, method):
    scores = getattr(tda, method)(normalised, tiny_task)
    for member, checkpoint in normalised.samples:
        plain = without_normalisation(normalised.module(member, checkpoint))
        assert not list(plain.buffers())
        one = Posterior.from_state_dicts(plain, [[plain.state_dict()]])
        expected = getattr(tda, method)(one, tiny_task)[0, 0]
        found = scores[member, checkpoint]
        np.testing.assert_allclose(
            found, expected, rtol=1e-3, atol=1e-4 * float(abs(expected).max())
        )


def test_with_batch_norm_a_score_does_not_depend_on_the_other_samples(normalised, tiny_task):
    whole = tda.grad_dot(normalised, tiny_task)
    few = tda.grad_dot(normalised, tiny_task.select(train=[3, 7], test=[2]))
    np.testing.assert_allclose(few, whole[:, :, [3, 7]][..., [2]], rtol=1e-4, atol=1e-6)
