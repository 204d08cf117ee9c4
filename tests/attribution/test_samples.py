"""A posterior sample as gradient methods are handed it, and labelled scores from what they give."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from tda_utils import Posterior, sample_posterior
from tda_utils.attribution.blocks import dense
from tda_utils.attribution.samples import check_inputs, labelled, over_samples
from tests.plain import autograd_gradients, flat
from tests.refusals import refused
from tests.tiny import SHORT, build_tiny_cnn, make_task


def samples_of(posterior, task, workers=1):
    """Return what a method is handed, one after the other."""
    return over_samples(
        lambda sample: sample, posterior, task, workers=workers, device="cpu", describe=""
    )


def test_a_method_is_handed_each_sample_member_by_member(tiny_task, tiny_posterior):
    samples = samples_of(tiny_posterior, tiny_task)
    assert [(one.member, one.checkpoint) for one in samples] == tiny_posterior.samples
    assert samples[3].where == "member 724, checkpoint 4"
    for one in samples:
        wanted = tiny_posterior.states[one.member][one.checkpoint]
        for name, value in one.module().state_dict().items():
            assert torch.equal(value, wanted[name])
        assert one.module(torch.float64)[0].weight.dtype == torch.float64
        assert one.finite and one.task is tiny_task


def test_workers_that_samples_leave_idle_help_within_them(tiny_task, tiny_posterior):
    one = tiny_posterior.select([0])
    assert [sample.workers for sample in samples_of(one, tiny_task, workers=5)] == [2, 2]


def test_gradients_are_those_of_the_samples_that_get_scores(tiny_task, tiny_posterior):
    some = tiny_task.attribute_only([7, 2])
    sample = samples_of(tiny_posterior, some)[1]
    model = sample.module()
    wanted = autograd_gradients(model, some.train_x[[7, 2]], some.train_y[[7, 2]])
    rows = sample.loss_gradients("train", slice(None))
    found = torch.cat([dense(block) for block in rows], dim=1)
    np.testing.assert_allclose(found @ found.T, wanted @ wanted.T, rtol=1e-4, atol=1e-6)
    test = autograd_gradients(model, some.test_x, some.test_y)
    rows = sample.loss_gradients("test", slice(2, 4))
    found = torch.cat([dense(block) for block in rows], dim=1)
    np.testing.assert_allclose(found.norm(dim=1), test[2:4].norm(dim=1), rtol=1e-4)
    images, labels = sample.training_data(sample.module(torch.float64))
    assert images.dtype == torch.float64 and len(images) == len(labels) == 12


@pytest.mark.parametrize("split", ["train", "test"])
def test_vectors_in_parameter_space_meet_the_gradients(split, tiny_task, tiny_posterior):
    """In the order of the parameters, whatever the order of a layer's own blocks."""
    sample = samples_of(tiny_posterior, tiny_task)[0]
    model = sample.module(torch.float64)
    inputs, labels, _ = tiny_task.split(split)
    gradients = autograd_gradients(model, inputs.double(), labels)
    vectors = torch.stack([flat(model.parameters()).detach(), gradients[3]])
    np.testing.assert_allclose(
        sample.dot_with(vectors, split), vectors @ gradients.T, rtol=1e-8, atol=1e-10
    )


def test_weights_are_the_members_or_ones(tiny_task, tiny_posterior):
    assert samples_of(tiny_posterior, tiny_task)[0].weights is None
    ones = samples_of(tiny_posterior, tiny_task)[0].weights_like(torch.zeros(1).double())
    assert torch.equal(ones, torch.ones(12).double())
    weights = torch.linspace(0, 1, 24).reshape(2, 12)
    weighted = sample_posterior(build_tiny_cnn, tiny_task, SHORT, (1, 2), weights=weights)
    assert torch.equal(samples_of(weighted, tiny_task)[-1].weights, weights[1])


def test_a_sample_that_diverged_is_not_finite(tiny_task, tiny_posterior):
    states = [[dict(state) for state in own] for own in tiny_posterior.states]
    states[1][0]["0.bias"] = torch.full((3,), torch.inf)
    broken = Posterior(tiny_posterior.model, states, epochs=(3, 4))
    found = [sample.finite for sample in samples_of(broken, tiny_task)]
    assert found == [True, True, False, True, True, True]


def test_what_methods_return_is_labelled_sample_by_sample(tiny_task, tiny_posterior):
    some = tiny_task.attribute_only([4, 1])
    values = np.arange(6 * 2 * 7.0).reshape(6, 2, 7)
    tau = labelled(
        values, tiny_posterior, some, method="m", protocol="paired", sign="removal", solver="s"
    )
    assert tau.dims == ("member", "checkpoint", "train", "test") and tau.name == "m"
    np.testing.assert_array_equal(tau.sel(member=724, checkpoint=4), values[3])
    assert tau.train.values.tolist() == some.train_index[[4, 1]].tolist()
    expected = {"method": "m", "protocol": "paired", "sign": "removal", "solver": "s"}
    assert tau.attrs.items() >= (expected | {"task": "tiny"}).items()


def test_arguments_that_do_not_fit_together(tiny_task, tiny_posterior):
    weighted = Posterior(tiny_posterior.model, tiny_posterior.states, weights=torch.ones(3, 5))
    linear = nn.Linear(3, 3)
    other = Posterior.from_state_dicts(linear, [[linear.state_dict()]])
    for error, posterior, task, protocol, facts in (
        (TypeError, "posterior", tiny_task, "paired", ["posterior is a str", "Posterior"]),
        (TypeError, tiny_posterior, "task", "paired", ["task is a str", "Task"]),
        (ValueError, tiny_posterior, tiny_task, "fast", ["protocol is 'fast'", "'released'"]),
        (ValueError, weighted, tiny_task, "paired", ["task", 12, 5]),
    ):
        refused(error, partial(check_inputs, posterior, task, protocol), *facts)
    for posterior, task in ((tiny_posterior, make_task(channels=3)), (other, tiny_task)):
        with pytest.raises(ValueError, match=r"inputs of shape \(\d, 8, 8\)"):
            check_inputs(posterior, task, "paired")
