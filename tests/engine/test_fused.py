"""The fused networks against autograd and against the general path of the engine."""

import numpy as np
import pytest
import torch
from torch import nn

import tda_utils as tda
from tda_utils.attribution.blocks import gram
from tda_utils.attribution.choice import gradient_method
from tda_utils.attribution.gradients import FusedGradients
from tda_utils.engine.fused import CACHED_BYTES, FusedNetwork, Patches, is_fusable
from tda_utils.engine.modules import ModuleNetwork
from tda_utils.engine.recipe import Job, Recipe, batch_order, initial_state
from tda_utils.engine.training import network_for, train_states
from tda_utils.models.convolutional import CNN2L, CNN3L
from tda_utils.models.states import AdamState
from tests.engine.cnns import CLASSES, LEFT, SIDE, TAKEN
from tests.refusals import refused
from tests.tiny import make_task

NETWORKS = [(CNN2L, 1, 28), (CNN2L, 3, 32), (CNN3L, 1, 28), (CNN3L, 3, 32)]
IDS = ["CNN2-L MNIST", "CNN2-L CIFAR", "CNN3-L MNIST", "CNN3-L CIFAR"]
# Largest difference allowed, relative to the largest value.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}


def images_with_ties(n, channels, side, dtype):
    """Return images with an empty third, where all values of a pooling window are equal."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(n, channels, side, side, generator=generator).to(dtype)
    images[:, :, : side // 3] = 0
    return images, torch.randint(0, 10, (n,), generator=generator)


def relative(ours, wanted):
    return float((ours - wanted).abs().max() / wanted.abs().max())


@pytest.mark.parametrize("dtype", TOLERANCE, ids=["float64", "float32"])
@pytest.mark.parametrize(("build", "channels", "side"), NETWORKS, ids=IDS)
def test_logits_and_gradient_equal_autograd(build, channels, side, dtype):
    torch.manual_seed(0)
    model = build(channels).to(dtype)
    images, labels = images_with_ties(11, channels, side, dtype)
    network = FusedNetwork(model, side, dtype)
    flat = network.pack(model.state_dict())
    logits, tape = network.logits(network.views(flat), network.prepare(images)[:])
    wanted = model(images)
    assert relative(logits, wanted.detach()) < TOLERANCE[dtype]
    wanted.register_hook(lambda errors: kept.append(errors))
    kept = []
    nn.functional.cross_entropy(wanted, labels).backward()
    gradient = torch.full_like(flat, torch.nan)
    network.gradient(network.views(flat), tape, kept[0], network.views(gradient))
    for name, parameter in model.named_parameters():
        assert relative(network.unpack(gradient)[name], parameter.grad) < TOLERANCE[dtype], name


@pytest.mark.parametrize("dtype", TOLERANCE, ids=["float64", "float32"])
def test_a_number_that_is_none_stays_none(dtype):
    """A model that diverged must be seen to have: NaN in one filter is NaN in every logit."""
    model = CNN2L().to(dtype)
    with torch.no_grad():
        model.conv1.weight[3] = torch.nan
    images, _ = images_with_ties(2, 1, 28, dtype)
    network = FusedNetwork(model, 28, dtype)
    views = network.views(network.pack(model.state_dict()))
    assert network.logits(views, network.prepare(images)[:])[0].isnan().all()


@pytest.mark.parametrize("dtype", TOLERANCE, ids=["float64", "float32"])
@pytest.mark.parametrize(("build", "channels", "side"), NETWORKS, ids=IDS)
def test_gradients_of_each_sample_equal_autograd(build, channels, side, dtype):
    """Of two mixtures of logits, and of the loss; all inner products between them and a vector."""
    torch.manual_seed(0)
    model = build(channels).to(dtype)
    images, labels = images_with_ties(5, channels, side, dtype)
    method = gradient_method(model, images, labels)
    assert isinstance(method, FusedGradients)
    mixtures = torch.randn(10, 2, dtype=dtype)
    parameters = list(model.parameters())

    def flat(scalar):
        return torch.cat([g.flatten() for g in torch.autograd.grad(scalar, parameters)])

    losses = torch.stack(
        [
            flat(nn.functional.cross_entropy(model(x[None]), y[None]))
            for x, y in zip(images, labels, strict=True)
        ]
    )
    mixed = torch.stack([flat(model(x[None])[0] @ column) for x in images for column in mixtures.T])
    vectors = {name: torch.randn(3, *p.shape, dtype=dtype) for name, p in model.named_parameters()}
    whole = torch.cat([vector.flatten(1) for vector in vectors.values()], dim=1)
    ours = [
        method.loss_gradients(model, images, labels),
        method.logit_gradients(model, images, mixtures),
        method.vectors(model, vectors),
    ]
    for left, wanted_left in zip(ours, (losses, mixed, whole), strict=True):
        for right, wanted_right in zip(ours, (losses, mixed, whole), strict=True):
            # In float64: the reference's own rounding is no smaller than ours.
            wanted = (wanted_left.double() @ wanted_right.double().T).to(dtype)
            assert relative(gram(left, right), wanted) < TOLERANCE[dtype]


@pytest.mark.parametrize(("build", "channels", "side"), NETWORKS, ids=IDS)
def test_packing_is_lossless(build, channels, side):
    model = build(channels)
    network = FusedNetwork(model, side, torch.float32)
    for name, value in network.unpack(network.pack(model.state_dict())).items():
        assert torch.equal(value, model.state_dict()[name]), name


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize(("build", "channels", "side"), NETWORKS, ids=IDS)
def test_training_equals_the_general_path(build, channels, side, dtype):
    """Tolerance after six steps of Adam: 1e-9 in float64, a tenth of a step in float32."""
    images, labels = images_with_ties(20, channels, side, torch.float32)
    recipe = Recipe(epochs=3, batch_size=12, keep_last=2)
    state = {n: v.to(dtype) for n, v in initial_state(lambda: build(channels), 446).items()}
    weights = torch.ones(20)
    weights[3] = 0
    job = Job(state, batch_order(446, 20, recipe), weights)
    model = build(channels)
    results = []
    for network in (
        FusedNetwork(model, side, dtype),
        ModuleNetwork(model, images, dtype),
    ):
        learner = network.learner(recipe, job.state)
        prepared = network.prepare(images)
        for batch in (batch for epoch in job.order for batch in epoch):
            learner.step(prepared[batch], labels[batch], weights[batch])
        results.append((learner.state(), learner.adam(), learner.losses(prepared, labels)))
    (ours, our_adam, our_losses), (wanted, wanted_adam, wanted_losses) = results
    tolerance = 1e-9 if dtype == torch.float64 else 1e-4
    for name in wanted:
        np.testing.assert_allclose(ours[name], wanted[name], rtol=0, atol=tolerance, err_msg=name)
    np.testing.assert_allclose(our_losses, wanted_losses, rtol=10 * tolerance, atol=10 * tolerance)
    assert our_adam.step == wanted_adam.step == 6
    for name, mean in wanted_adam.exp_avg.items():
        assert relative(our_adam.exp_avg[name], mean) < 100 * tolerance, name


def test_training_goes_on_from_a_state_of_adam():
    images, labels = images_with_ties(6, 1, 28, torch.float64)
    state = {n: v.double() for n, v in initial_state(CNN2L, 1).items()}
    generator = torch.Generator().manual_seed(3)
    adam = AdamState(
        5.0,
        {n: torch.randn(v.shape, generator=generator).double() for n, v in state.items()},
        {n: torch.rand(v.shape, generator=generator).double() for n, v in state.items()},
    )
    job = Job(state, [[torch.arange(6)]], None, adam)
    stepped = []
    for network in (
        FusedNetwork(CNN2L(), 28, torch.float64),
        ModuleNetwork(CNN2L(), images, torch.float64),
    ):
        learner = network.learner(Recipe(), job.state, job.adam)
        learner.step(network.prepare(images)[:], labels, None)
        stepped.append(learner.state())
    for name, value in stepped[1].items():
        np.testing.assert_allclose(stepped[0][name], value, rtol=0, atol=1e-12, err_msg=name)


def test_patches_that_are_too_many_are_cut_when_asked_for(monkeypatch):
    images, _ = images_with_ties(9, 1, 28, torch.float32)
    layer = FusedNetwork(CNN2L(), 28, torch.float32).geometry[0]
    ahead = Patches(images, layer)
    monkeypatch.setattr("tda_utils.engine.fused.CACHED_BYTES", 0)
    later = Patches(images, layer)
    positions = torch.tensor([4, 0, 8])
    for chosen in (positions, slice(2, 5)):
        (patches, where), (own, own_where) = ahead[chosen].arrays(), later[chosen].arrays()
        np.testing.assert_array_equal(patches[where], own[own_where])
    assert len(later) == 9 and CACHED_BYTES > 0


def test_what_is_computed_is_what_pooling_keeps():
    """The last row and column of an odd map are dropped by pooling, and what only they look at."""
    pooled = [layer.pooled for layer in FusedNetwork(CNN2L(), 28, torch.float32).geometry]
    assert pooled == [12, 5]


def strangers(name, dtype=torch.float64):
    """Return such a network with biases that make a difference, and images."""
    torch.manual_seed(3)
    model = TAKEN[name][0]().to(dtype)
    images, labels = images_with_ties(9, 1, SIDE, dtype)
    return model, images - 0.3, labels % CLASSES


@pytest.mark.parametrize("name", TAKEN)
def test_networks_of_strangers_equal_autograd(name):
    """Logits, the gradient of their sum of squares, and those of each sample, in float64."""
    model, images, labels = strangers(name)
    network = FusedNetwork(model, SIDE, torch.float64)
    flat = network.pack(model.state_dict())
    views = network.views(flat)
    logits, tape = network.logits(views, network.prepare(images)[:])
    wanted = model(images)
    assert relative(logits, wanted.detach()) < 1e-12
    assert relative(network.logits(views, network.prepare(images)[:], keep=False)[0], logits) == 0
    (wanted**2).sum().backward()
    network.gradient(views, tape, 2 * wanted.detach(), network.views(gradient := flat * torch.nan))
    for own, parameter in model.named_parameters():
        assert relative(network.unpack(gradient)[own], parameter.grad) < 1e-12, own
    method = gradient_method(model, images, labels)
    assert isinstance(method, FusedGradients)
    ours = method.loss_gradients(model, images, labels)
    rows = torch.stack([one.flatten() for one in each_gradient(model, images, labels)])
    assert relative(gram(ours, ours), rows @ rows.T) < 1e-12
    named = {own: p.detach()[None] for own, p in model.named_parameters()}
    whole = torch.cat([value.flatten(1) for value in named.values()], dim=1)
    assert relative(gram(ours, method.vectors(model, named)), rows @ whole.T) < 1e-12


def each_gradient(model, images, labels):
    for image, label in zip(images, labels, strict=True):
        loss = nn.functional.cross_entropy(model(image[None]), label[None])
        found = torch.autograd.grad(loss, list(model.parameters()))
        yield torch.cat([one.flatten() for one in found])


@pytest.mark.parametrize("name", ["methods", "deep"])
def test_scores_of_strangers_networks_are_those_of_the_general_path(name, monkeypatch):
    """Trained and attributed by both, in float64: posterior and each method agree to rounding."""
    _, images, labels = strangers(name)
    task = tda.Task.from_arrays(images[:6], labels[:6], images[6:], labels[6:])
    recipe = Recipe(epochs=2, batch_size=4, keep_last=1, lr=1e-2)

    def build():
        return TAKEN[name][0]().double()

    def scored():
        posterior = tda.sample_posterior(build, task, recipe, (5,))
        few = task.attribute_only(2)
        scores = [tda.loo(posterior, few), tda.ats(posterior, few), tda.influence(posterior, task)]
        scores += [tda.grad_cos(posterior, task), tda.unrolled(posterior, few, check=0)]
        return posterior, scores, type(network_for(build(), images, torch.float64)).__name__

    ours, fused, kind = scored()
    for module in ("engine.fused", "attribution.choice"):
        monkeypatch.setattr(f"tda_utils.{module}.is_fusable", lambda *_: False)
    general, plain, other = scored()
    assert (kind, other) == ("FusedNetwork", "ModuleNetwork")
    assert list(ours.states[0][0]) == list(general.states[0][0])
    for own, value in general.states[0][0].items():
        np.testing.assert_allclose(ours.states[0][0][own], value, rtol=0, atol=1e-9, err_msg=own)
    for one, another in zip(fused, plain, strict=True):
        np.testing.assert_allclose(one, another, rtol=0, atol=1e-6 * float(abs(another).max()))


def test_only_what_a_trace_shows_whole_is_fused():
    """On square images of the right sizes on the CPU; `tests/engine/test_structure.py` has more."""
    model, images = CNN2L(), torch.ones(1, 1, 28, 28)
    assert is_fusable(model, images)
    others = [images[0], images[..., :27], images.expand(1, 3, 28, 28), torch.ones(1, 1, 32, 32)]
    for other in (*others, images.numpy(), {"images": images}, images.to("meta")):
        assert not is_fusable(model, other)
    for build in (LEFT["training"], LEFT["frozen"]):
        images = torch.ones(1, 1, SIDE, SIDE)
        assert isinstance(network_for(build(), images, torch.float32), ModuleNetwork)
    refused(ValueError, lambda: FusedNetwork(LEFT["softmax"](), SIDE, torch.float32), "Sequential")


def test_a_state_that_does_not_fit_is_refused():
    network, state = FusedNetwork(CNN2L(), 28, torch.float32), CNN3L().state_dict()
    refused(ValueError, lambda: network.learner(Recipe(), state), "'fc1.weight'", (256, 2048))


def test_leave_one_out_is_the_same_on_both_paths(monkeypatch):
    """MNIST3 and CNN2-L, two epochs of two batches: scores agree to 1e-4 of the largest."""
    task = tda.load_task("mnist3", per_class=20, test_per_class=3).select(train=range(0, 60, 10))
    recipe = Recipe(epochs=4, batch_size=4, keep_last=2)
    fused = tda.loo(tda.sample_posterior(CNN2L, task, recipe, (446,)), task)
    monkeypatch.setattr("tda_utils.engine.fused.is_fusable", lambda *_: False)
    plain = tda.loo(tda.sample_posterior(CNN2L, task, recipe, (446,)), task)
    np.testing.assert_allclose(fused, plain, rtol=0, atol=1e-4 * float(abs(plain).max()))


def test_workers_do_not_share_memory():
    """Two models at once give what each gives alone, to the last bit."""
    task = make_task(n_train=8, size=28)
    recipe = Recipe(epochs=3, batch_size=4, keep_last=1)
    jobs = [
        Job(initial_state(CNN2L, seed), batch_order(seed, 8, recipe, CNN2L)) for seed in range(4)
    ]
    together = train_states(CNN2L(), task.train_x, task.train_y, recipe, jobs, workers=4)
    for job, kept in zip(jobs, together, strict=True):
        [alone] = train_states(CNN2L(), task.train_x, task.train_y, recipe, [job], workers=1)
        for name, value in alone[0][0].items():
            assert torch.equal(value, kept[0][0][name]), name
