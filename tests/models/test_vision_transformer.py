"""The vision transformer with LoRA, on a tiny random backbone; and how other backbones are read."""

import dataclasses
import hashlib
from functools import partial

import numpy as np
import pytest
import torch
import transformers
from scipy.sparse.linalg import LinearOperator, cg
from torch import nn

import tda_utils as tda
import tda_utils.models.vision_transformer as vit
from tda_utils.attribution.blocks import dense
from tda_utils.attribution.gradients import LayerGradients, VmapGradients, gradient_method
from tda_utils.engine.modules import ModuleNetwork
from tda_utils.engine.noise import SeededDropout
from tda_utils.models.states import copied_model, state_of, trainable_parameters
from tests.plain import autograd_gradients, flat
from tests.refusals import refused
from tests.tiny import make_task

RECIPE = tda.Recipe(epochs=2, batch_size=5, keep_last=2, lr=1e-2, schedule="linear")


def build():
    return vit.LoRAVisionTransformer(channels=1, backbone="tiny", image_size=14)


@pytest.fixture(scope="module")
def task():
    return make_task(n_train=8, n_test=5)


@pytest.fixture(scope="module")
def posterior(task):
    return tda.sample_posterior(build, task, RECIPE, seeds=(446, 724), workers=2)


def frozen_bytes():
    encoder = vit.load_backbone("tiny", 14).encoder
    return hashlib.sha256(b"".join(p.numpy().tobytes() for p in encoder.parameters())).hexdigest()


def test_queries_values_and_the_classifier_are_trained():
    names = list(trainable_parameters(build()))
    assert names == ["classifier.weight", "classifier.bias"] + [
        f"encoder.layers.{layer}.attention.{kind}_proj.lora_{matrix}.default.weight"
        for layer in (0, 1)
        for kind in "qv"
        for matrix in "AB"
    ]


def test_the_papers_network_has_its_number_of_trained_parameters(monkeypatch):
    with torch.device("meta"):
        encoder = transformers.ViTModel(transformers.ViTConfig(), add_pooling_layer=False)
    encoder.requires_grad_(False)
    half = (0.5, 0.5, 0.5)
    paper = vit.Backbone(encoder, 224, half, half)
    monkeypatch.setattr(vit, "load_backbone", lambda name, size: paper)
    model = vit.LoRAVisionTransformer(channels=3)
    assert sum(p.numel() for p in trainable_parameters(model).values()) == 597514


def test_a_seed_sets_adapters_and_classifier_and_the_backbone_is_shared():
    def of_seed(seed):
        torch.manual_seed(seed)
        return build()

    one, same, other = of_seed(1), of_seed(1), of_seed(2)
    for name, value in state_of(one).items():
        assert torch.equal(value, state_of(same)[name])
        random = not name.endswith(("bias", "lora_B.default.weight"))
        assert torch.equal(value, state_of(other)[name]) != random, name
        assert random == bool(value.count_nonzero())
    pairs = zip(one.named_parameters(), copied_model(other).parameters(), strict=True)
    for (name, mine), others in pairs:
        assert (mine.data_ptr() == others.data_ptr()) != mine.requires_grad, name


def test_loading_a_backbone_leaves_the_global_random_state_alone():
    vit._loaded.cache_clear()
    vit.load_backbone.cache_clear()
    torch.manual_seed(3)
    first = build()
    torch.manual_seed(3)
    assert torch.equal(first.classifier.weight, build().classifier.weight)


def test_another_type_of_number_for_a_copy_is_its_own():
    before = frozen_bytes()
    copied_model(build()).double()
    assert frozen_bytes() == before


@pytest.mark.parametrize("size", [14, 28, 42])
def test_positions_are_interpolated_as_transformers_does(size):
    images = torch.rand(2, 3, size, size)
    native = vit._loaded("tiny").encoder
    with torch.no_grad():
        wanted = native(images, interpolate_pos_encoding=True).last_hidden_state
        ours = vit.load_backbone("tiny", size).encoder(images).last_hidden_state
    np.testing.assert_allclose(ours, wanted, atol=1e-5)


def test_grey_and_coloured_images_reach_the_backbone_alike():
    torch.manual_seed(0)
    grey = vit.LoRAVisionTransformer(1, "tiny", 14)
    torch.manual_seed(0)
    coloured = vit.LoRAVisionTransformer(3, "tiny", 14)
    images = torch.rand(2, 1, 9, 9)
    with torch.no_grad():
        np.testing.assert_allclose(
            grey.eval()(images),
            coloured.eval()(images.expand(-1, 3, -1, -1) * 2 - 1),
            rtol=1e-4,
            atol=1e-6,
        )


def test_bad_values_are_refused(tmp_path):
    for size in (0, 15, 14.0, -7):
        load = partial(vit.load_backbone, "tiny", size)
        refused(ValueError, load, f"image_size is {size!r}", "multiple of 7", "'tiny'")
    refused(ValueError, lambda: vit.LoRAVisionTransformer(2, "tiny"), "channels is 2", 1, 3)
    nothing = str(tmp_path / "nothing")
    load = partial(vit.load_backbone, nothing)
    refused(FileNotFoundError, load, f"backbone is {nothing!r}", "model.safetensors", "'tiny'")


def test_a_folder_of_transformers_is_read_from_safetensors_only(tmp_path):
    native = vit._loaded("tiny").encoder
    native.save_pretrained(tmp_path / "mine")
    (tmp_path / "mine" / "preprocessor_config.json").write_text(
        '{"image_mean": [0.1, 0.2, 0.3], "image_std": [1.0, 1.0, 1.0]}', encoding="utf-8"
    )
    folder = str(tmp_path / "mine")
    loaded = vit.load_backbone(folder)
    assert loaded.image_size == 28 and loaded.mean == (0.1, 0.2, 0.3)
    for name, value in native.state_dict().items():
        assert torch.equal(loaded.encoder.state_dict()[name], value), name
    assert tda.model_builder("vit", 3, backbone=folder)()(torch.rand(1, 3, 32, 32)).shape == (1, 10)
    identity = vit.backbone_identity(folder)
    assert identity.startswith("mine, sha256 ")
    torch.save(native.state_dict(), tmp_path / "mine" / "pytorch_model.bin")
    (tmp_path / "mine" / "model.safetensors").unlink()
    vit._loaded.cache_clear()
    refused(FileNotFoundError, lambda: vit._loaded(folder), folder, "model.safetensors")


# ---------------- trained, and its samples attributed


def test_training_changes_no_frozen_parameter_and_stores_none(task, posterior):
    before = frozen_bytes()
    trained = tda.sample_posterior(build, task, RECIPE, seeds=(446,), workers=1)
    assert frozen_bytes() == before
    names = trainable_parameters(build()).keys()
    assert trained.states[0][0].keys() == trained.adam[0][0].exp_avg.keys() == names
    for checkpoint, state in enumerate(trained.states[0]):
        for name, value in state.items():
            assert torch.equal(value, posterior.states[0][checkpoint][name]), name


def test_leave_one_out_does_not_depend_on_workers(task, posterior):
    some = task.attribute_only([1, 6])
    one, two = (tda.loo(posterior, some, workers=workers) for workers in (1, 2))
    np.testing.assert_array_equal(one, two)
    assert float(abs(one).min()) > 0


def test_masks_differ_from_step_to_step_and_follow_the_seed(task):
    network = ModuleNetwork(build(), task.train_x, torch.float32)

    def masks(seed):
        learner, seen = network.learner(RECIPE, state_of(build()), None, seed), []
        for module in learner._model.modules():
            if isinstance(module, SeededDropout):
                module.register_forward_hook(lambda _, inputs, output: seen.append(output == 0))
        for _ in range(2):
            learner.step(task.train_x, task.train_y, None)
        learner.losses(task.test_x, task.test_y)
        return seen[:8]

    one, same, other = masks(1), masks(1), masks(2)
    assert len(one) == 8, "two layers, queries and values, two steps"
    assert len({mask.numpy().tobytes() for mask in one}) == 8
    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_an_evaluation_has_no_dropout(task, posterior):
    first, again = posterior.losses(task), posterior.losses(task)
    assert first.identical(again)
    with torch.no_grad():
        logits = posterior.module(1, 0)(task.test_x)
    wanted = nn.functional.cross_entropy(logits, task.test_y, reduction="none")
    np.testing.assert_allclose(first[1, 0], wanted, rtol=1e-5)


def test_gradients_equal_autograds_in_float64(task, posterior):
    model = posterior.module(0, 1).double()
    images, labels = task.train_x[:4].double(), task.train_y[:4]
    wanted = autograd_gradients(model, images, labels)
    chosen = gradient_method(posterior.module(0, 1), task.train_x, task.train_y)
    assert isinstance(chosen, LayerGradients)
    whole = {
        name: part.view(len(part), *p.shape)
        for (name, p), part in zip(
            trainable_parameters(model).items(),
            wanted.split([p.numel() for p in trainable_parameters(model).values()], dim=1),
            strict=True,
        )
    }
    for method in (chosen, VmapGradients()):
        blocks = method.loss_gradients(model, images, labels)
        for block, own in zip(blocks, method.vectors(model, whole), strict=True):
            np.testing.assert_allclose(dense(block), own.values, rtol=1e-9, atol=1e-13)


def test_grad_dot_equals_a_plain_loop(task, posterior):
    model = posterior.module(1, 1)
    train, test = (autograd_gradients(model, *task.split(name)[:2]) for name in ("train", "test"))
    scores = tda.grad_dot(posterior, task)[1, 1]
    np.testing.assert_allclose(scores, train @ test.T, rtol=1e-3, atol=1e-5)


def test_influence_solves_with_the_gauss_newton_matrix_of_trained_parameters(task, posterior):
    """By conjugate gradients on J^T (diag p - p p^T) J / n, of 4426 x 4426 numbers."""
    model, damping = posterior.module(0, 1).double(), 0.1
    parameters = list(trainable_parameters(model).values())
    images, n = task.train_x.double(), task.n_train
    logits = model(images)
    jacobian = np.stack(
        [flat(torch.autograd.grad(x, parameters, retain_graph=True)) for x in logits.flatten()]
    ).reshape(*logits.shape, -1)
    p = logits.softmax(1).detach().numpy()

    def times(vector):
        change = jacobian @ vector
        curved = p * (change - (p * change).sum(1, keepdims=True))
        return np.einsum("nkp,nk->p", jacobian, curved) / n + damping * vector

    size = jacobian.shape[-1]
    matrix = LinearOperator((size, size), matvec=times, dtype=np.float64)
    train = autograd_gradients(model, images, task.train_y).numpy()
    test = autograd_gradients(model, task.test_x.double(), task.test_y).numpy()
    solved = [cg(matrix, gradient, rtol=1e-12)[0] for gradient in train]
    scores = tda.influence(posterior, task, damping=damping)[0, 1]
    np.testing.assert_allclose(scores, np.stack(solved) @ test.T / n, rtol=1e-6, atol=1e-9)


def test_lissa_runs_the_recursion_over_trained_parameters(task, posterior):
    """On the side of the test gradient, as the released code does it; one batch of eight."""
    model = posterior.module(0, 0)
    parameters = list(trainable_parameters(model).values())
    loss = nn.functional.cross_entropy(model(task.train_x), task.train_y)
    gradients = torch.autograd.grad(loss, parameters, create_graph=True)
    gradient = torch.cat([g.flatten() for g in gradients])
    train, test = (autograd_gradients(model, *task.split(name)[:2]) for name in ("train", "test"))
    rows = []
    for start in test:
        products = torch.autograd.grad(gradient @ start, parameters, retain_graph=True)
        step = start + (1 - 5e-3) * start - torch.cat([p.flatten() for p in products]) / 1e4
        rows.append(-(train @ step) / 1e4)
    scores = tda.influence(posterior, task, protocol="released")[0, 0]
    wanted = torch.stack(rows, dim=1)
    np.testing.assert_allclose(scores, wanted, rtol=1e-3, atol=1e-6 * float(wanted.abs().max()))


# ---------------- experiments


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    return tda.Experiment(
        model="vit",
        backbone="tiny",
        image_size=14,
        members=1,
        checkpoints=1,
        epochs=1,
        test_per_class=1,
        attributed=2,
        store=tmp_path_factory.mktemp("vit"),
    )


@pytest.mark.parametrize("protocol", ["paired", "released"])
@pytest.mark.parametrize("method", tda.METHODS)
def test_an_experiment_stores_and_reads_its_scores(experiment, method, protocol):
    own = dataclasses.replace(experiment, protocol=protocol)
    scores = own.scores(method)
    assert dict(scores.sizes) == {"member": 1, "checkpoint": 1, "train": 2, "test": 3}
    assert np.isfinite(scores).all() and float(abs(scores).max()) > 0
    assert dataclasses.replace(own).scores(method).identical(scores)
    options = {"released": "unpaired"} if method == "loo" else {}
    direct = tda.attribute(own.posterior(), own.data, method, protocol=protocol, **options)
    np.testing.assert_allclose(scores, direct, rtol=1e-4, atol=1e-6)
    if method == "loo":
        assert scores.attrs.get("retraining") == ("unpaired" if protocol == "released" else None)


def test_the_experiment_is_the_papers(experiment):
    assert experiment.recipe.schedule == "linear" and experiment.recipe.crop is None
    released = dataclasses.replace(experiment, protocol="released")
    assert released.recipe.crop == 14
    values = experiment._values("loo", experiment.runs[0])
    assert values["backbone"] == vit.backbone_identity("tiny") and values["image_size"] == 14
    path = experiment.file("loo", experiment.runs[0])
    assert path.parent.name == "mnist3-10-vit-tiny-14"
    sizes = [dataclasses.replace(experiment, image_size=size) for size in (None, 28, 21)]
    names = [own.file("loo", own.runs[0]) for own in sizes]
    assert names[0] == names[1] and len({*names, path}) == 3
