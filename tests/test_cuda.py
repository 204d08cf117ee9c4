"""What runs on a CUDA card, against the CPU; `make cuda-test` on a machine that has one."""

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch

import tda_utils as tda
from tda_utils.engine.recipe import Job, Recipe, batch_order, initial_state
from tda_utils.engine.stacked import StackedLearner, train_stacked
from tda_utils.engine.training import train_losses
from tda_utils.models.convolutional import CNN3L
from tests.tiny import build_tiny_cnn

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs a CUDA card; PyTorch finds none here"
)
CARD = torch.device("cuda")


@pytest.fixture(scope="module")
def task():
    """Return MNIST3 with 30 training samples, of which 7 are attributed, and 6 test samples."""
    return tda.load_task("mnist3", per_class=10, test_per_class=2).attribute_only(7)


@pytest.fixture(scope="module")
def posterior(task):
    """Return two members of CNN2-L, trained on the CPU."""
    recipe = Recipe(epochs=4, keep_last=2)
    build = tda.model_builder("cnn2", channels=1)
    return tda.sample_posterior(build, task, recipe, seeds=(446, 724), device="cpu")


def jobs_of(task, recipe, build, seeds=(446, 724, 571), weighted=True):
    """Return jobs that differ in start, order and, if so wanted, weights."""
    return [
        Job(
            initial_state(build, seed),
            batch_order(seed, task.n_train, recipe),
            torch.linspace(0, 2, task.n_train) if weighted and seed != 724 else None,
        )
        for seed in seeds
    ]


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("schedule", ["constant", "linear"])
def test_training_agrees_with_the_cpu(task, schedule, weighted):
    """Thirty samples in batches of four: steps are recorded for two sizes of batch."""
    recipe = Recipe(epochs=6, batch_size=4, keep_last=2, schedule=schedule)
    build = tda.model_builder("cnn2", channels=1)
    jobs = jobs_of(task, recipe, build, weighted=weighted)
    data = (build(), task.train_x, task.train_y, recipe, jobs, task.test_x, task.test_y)
    there, here = train_losses(*data, device="cuda"), train_losses(*data, device="cpu")
    np.testing.assert_allclose(there, here, rtol=0.02, atol=2e-3)


def test_recorded_steps_equal_steps_one_by_one(task, monkeypatch):
    """To the last bit, and going on with the optimiser's memory, too."""
    recipe = Recipe(epochs=4, batch_size=4, keep_last=2)
    build = tda.model_builder("cnn2", channels=1)
    first = jobs_of(task, recipe, build)
    data = (build(), task.train_x, task.train_y, recipe)

    def train():
        kept = train_stacked(*data, first, StackedLearner.kept, CARD)
        later = [
            replace(job, state=one[-1][0], adam=one[-1][1])
            for job, one in zip(first, kept, strict=True)
        ]
        return kept, train_stacked(*data, later, StackedLearner.kept, CARD)

    recorded = train()
    monkeypatch.setattr("tda_utils.engine.stacked.WARM_UP", 10**9)
    plain = train()
    for one, other in zip(recorded, plain, strict=True):
        for mine, wanted in zip(one, other, strict=True):
            for (state, adam), (wanted_state, wanted_adam) in zip(mine, wanted, strict=True):
                assert adam.step == wanted_adam.step
                for name in wanted_state:
                    assert torch.equal(state[name], wanted_state[name])
                    assert torch.equal(adam.exp_avg_sq[name], wanted_adam.exp_avg_sq[name])


def test_training_repeats_to_the_last_bit_wherever_in_the_stack(task):
    """Else paired leave-one-out would measure the order in which a card adds numbers."""
    recipe = Recipe(epochs=20, batch_size=8, keep_last=1)
    build = tda.model_builder("cnn2", channels=1)
    jobs = jobs_of(task, recipe, build, seeds=(446, 724, 446, 446, 571), weighted=False)
    data = (build(), task.train_x, task.train_y, recipe, jobs, task.test_x, task.test_y)
    once, again = train_losses(*data, device="cuda"), train_losses(*data, device="cuda")
    assert torch.equal(once, again)
    assert torch.equal(once[0], once[2])
    assert torch.equal(once[0], once[3])
    assert not torch.equal(once[0], once[1])


def test_a_learner_is_freed_without_garbage_collection(task):
    """Freeing a recorded step while another is recorded would break that one."""
    recipe = Recipe(epochs=2, batch_size=5, keep_last=1)
    build = tda.model_builder("cnn2", channels=1)
    jobs = jobs_of(task, recipe, build)
    held = []

    def observe(learner):
        held.append(weakref.ref(learner))
        return [None] * len(jobs)

    gc.disable()
    try:
        train_stacked(build(), task.train_x, task.train_y, recipe, jobs, observe, CARD)
        assert held[0]() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("method", "options", "tolerance"),
    [
        ("grad_dot", {}, 1e-4),
        ("grad_cos", {}, 1e-4),
        ("ats", {}, 0.02),
        ("ats", {"protocol": "released"}, 0.02),
        ("influence", {"solver": "ggn"}, 1e-3),
        ("influence", {"solver": "ekfac"}, 0.02),
        ("influence", {"protocol": "released"}, 0.02),
        ("loo", {}, 0.05),
        ("loo", {"protocol": "released"}, 0.05),
    ],
)
def test_methods_agree_with_the_cpu(task, posterior, method, options, tolerance):
    here = tda.attribute(posterior, task, method, device="cpu", **options)
    there = tda.attribute(posterior, task, method, device="cuda", **options)
    assert there.attrs == here.attrs
    np.testing.assert_allclose(there, here, atol=tolerance * float(abs(here).max()))


def test_the_hessian_agrees_with_the_cpu(tiny_task, tiny_posterior):
    options = {"solver": "hessian", "damping": 50.0}
    here = tda.influence(tiny_posterior, tiny_task, device="cpu", **options)
    there = tda.influence(tiny_posterior, tiny_task, device="cuda", **options)
    np.testing.assert_allclose(there, here, atol=1e-6 * float(abs(here).max()))


def test_ekfac_of_many_samples_draws_the_same_signs(monkeypatch, task, posterior):
    monkeypatch.setattr("tda_utils.attribution.ekfac.EXPECTED", 1)
    here = tda.influence(posterior, task, solver="ekfac", device="cpu")
    there = tda.influence(posterior, task, solver="ekfac", device="cuda")
    np.testing.assert_allclose(there, here, atol=0.02 * float(abs(here).max()))


def test_gradients_of_a_deeper_network_agree_with_the_cpu(task):
    recipe = Recipe(epochs=2, keep_last=1)
    posterior = tda.sample_posterior(CNN3L, task, recipe, seeds=(446,), device="cuda")
    here = tda.influence(posterior, task, device="cpu")
    there = tda.influence(posterior, task, device="cuda")
    np.testing.assert_allclose(there, here, atol=1e-3 * float(abs(here).max()))


def test_scores_say_where_they_were_computed(tmp_path):
    experiment = tda.Experiment(
        members=1, checkpoints=1, epochs=1, test_per_class=1, store=tmp_path, device="cuda"
    )
    (shard,) = experiment.compute("grad_dot").values()
    assert shard.metadata["device"] == torch.cuda.get_device_name()
    on_cpu = replace(experiment, device="cpu")
    assert on_cpu.scores("grad_dot").equals(experiment.scores("grad_dot"))


def test_one_model_fills_no_stack_that_does_not_fit(task, monkeypatch):
    """A card with hardly any memory left trains one model after the other."""
    monkeypatch.setattr("tda_utils.engine.stacked.GPU_SHARE", 1e-12)
    recipe = Recipe(epochs=2, batch_size=5, keep_last=1)
    jobs = jobs_of(task, recipe, build_tiny_cnn_for_digits, weighted=False)
    data = (build_tiny_cnn_for_digits(), task.train_x, task.train_y, recipe, jobs)
    losses = train_losses(*data, task.test_x, task.test_y, device="cuda")
    wanted = train_losses(*data, task.test_x, task.test_y, device="cpu")
    np.testing.assert_allclose(losses, wanted, rtol=0.02, atol=2e-3)


def build_tiny_cnn_for_digits():
    """Return the tiny network with a first linear layer for 28 x 28 pixels."""
    model = build_tiny_cnn()
    model[4] = torch.nn.Linear(3 * 13 * 13, 5)
    return model
