"""The vision transformer with LoRA, on a tiny random backbone; and how other backbones are read."""

import dataclasses
import hashlib
import subprocess
import sys

import numpy as np
import pytest
import torch
import transformers
from torch import nn
from torchvision.transforms import RandomResizedCrop

import tda_utils as tda
import tda_utils.models.vision_transformer as vit
from tda_utils.attribution.blocks import dense
from tda_utils.attribution.gradients import LayerGradients, VmapGradients, gradient_method
from tda_utils.engine.modules import ModuleNetwork
from tda_utils.engine.noise import UNPAIRED_STREAM, RandomResizedCrops, SeededDropout, derived_seed
from tda_utils.models.states import copied_model, state_of, trainable_parameters
from tests.conftest import make_task

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


def test_the_paired_retraining_sees_the_members_masks(task):
    """So leaving out a sample that has no weight in training changes nothing, exactly."""
    weights = torch.ones(1, task.n_train)
    weights[0, 3] = 0
    member = tda.sample_posterior(build, task, RECIPE, seeds=(446,), weights=weights)
    scores = tda.loo(member, task.attribute_only([3, 4]))
    assert float(abs(scores[..., 0, :]).max()) == 0
    assert float(abs(scores[..., 1, :]).min()) > 0


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


def plain_gradients(model, images, labels):
    """One backward pass a sample."""
    parameters = list(trainable_parameters(model).values())
    rows = []
    for image, label in zip(images, labels, strict=True):
        loss = nn.functional.cross_entropy(model(image[None]), label[None])
        rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)]))
    return torch.stack(rows)


def test_gradients_equal_autograds_in_float64(task, posterior):
    model = posterior.module(0, 1).double()
    images, labels = task.train_x[:4].double(), task.train_y[:4]
    wanted = plain_gradients(model, images, labels)
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
    train, test = (plain_gradients(model, *task.split(name)[:2]) for name in ("train", "test"))
    scores = tda.grad_dot(posterior, task)[1, 1]
    np.testing.assert_allclose(scores, train @ test.T, rtol=1e-3, atol=1e-5)


def test_influence_solves_with_the_gauss_newton_matrix_of_trained_parameters(task, posterior):
    """Against the matrix written out: J^T (diag p - p p^T) J / n, of 4426 x 4426 numbers."""
    model, damping = posterior.module(0, 1).double(), 0.1
    parameters = list(trainable_parameters(model).values())
    images, n = task.train_x.double(), task.n_train
    size = sum(p.numel() for p in parameters)
    matrix = damping * torch.eye(size, dtype=torch.float64)
    for image in images:
        logits = model(image[None])[0]
        rows = [
            torch.cat([g.flatten() for g in torch.autograd.grad(x, parameters, retain_graph=True)])
            for x in logits
        ]
        p, jacobian = logits.softmax(0).detach(), torch.stack(rows)
        matrix += jacobian.T @ (torch.diag(p) - p[:, None] * p) @ jacobian / n
    train = plain_gradients(model, images, task.train_y)
    test = plain_gradients(model, task.test_x.double(), task.test_y)
    wanted = torch.linalg.solve(matrix, train.T, left=True).T @ test.T / n
    scores = tda.influence(posterior, task, damping=damping)[0, 1]
    np.testing.assert_allclose(scores, wanted, rtol=1e-6, atol=1e-9)


def test_lissa_runs_the_recursion_over_trained_parameters(task, posterior):
    """On the side of the test gradient, as the released code does it; one batch of eight."""
    model = posterior.module(0, 0)
    parameters = list(trainable_parameters(model).values())
    loss = nn.functional.cross_entropy(model(task.train_x), task.train_y)
    gradients = torch.autograd.grad(loss, parameters, create_graph=True)
    gradient = torch.cat([g.flatten() for g in gradients])
    train, test = (plain_gradients(model, *task.split(name)[:2]) for name in ("train", "test"))
    rows = []
    for start in test:
        products = torch.autograd.grad(gradient @ start, parameters, retain_graph=True)
        step = start + (1 - 5e-3) * start - torch.cat([p.flatten() for p in products]) / 1e4
        rows.append(-(train @ step) / 1e4)
    scores = tda.influence(posterior, task, protocol="released")[0, 0]
    wanted = torch.stack(rows, dim=1)
    np.testing.assert_allclose(scores, wanted, rtol=1e-3, atol=1e-6 * float(wanted.abs().max()))


def test_unpaired_leave_one_out_is_a_member_of_another_seed(task, posterior):
    """Trained from scratch without z_j, to the last epoch, and compared with each checkpoint."""
    scores = tda.loo(posterior, task.attribute_only([2]), protocol="released", released="unpaired")
    weights = torch.ones(1, task.n_train)
    weights[0, 2] = 0
    before = posterior.losses(task)
    for checkpoint, epoch in enumerate(posterior.epochs):
        seed = derived_seed(724, UNPAIRED_STREAM, 724, epoch, 2)
        other = tda.sample_posterior(build, task, RECIPE, seeds=(seed,), weights=weights)
        wanted = other.losses(task)[0, -1] - before[1, checkpoint]
        np.testing.assert_allclose(scores[1, checkpoint, 0], wanted, atol=1e-6)
    assert scores.attrs["retraining"] == "unpaired" and scores.attrs["sign"] == "removal"
    with pytest.raises(ValueError, match="released is 'both'; it must be one of"):
        tda.loo(posterior, task, released="both")


def test_a_released_step_draws_other_masks_for_each_sample(task, posterior):
    """And the same ones however many samples are attributed."""
    whole = tda.ats(posterior, task, protocol="released")
    some = tda.ats(posterior, task.attribute_only([5]), protocol="released")
    np.testing.assert_array_equal(some[:, :, 0], whole[:, :, 5])


def test_crops_are_distributed_as_torchvisions():
    crops, image = RandomResizedCrops(8, seed=0), torch.zeros(1, 28, 28)
    ours = np.array([crops.box(28, 28) for _ in range(1500)])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        wanted = np.array(
            [RandomResizedCrop.get_params(image, (0.08, 1), (3 / 4, 4 / 3)) for _ in range(1500)]
        )
    np.testing.assert_allclose(ours.mean(0), wanted.mean(0), atol=0.6)
    np.testing.assert_allclose(ours.std(0), wanted.std(0), atol=0.5)
    assert (ours[:, :2] >= 0).all() and (ours[:, :2] + ours[:, 2:] <= 28).all()
    # Too wide for any crop of an allowed ratio and share: the largest one in the middle.
    assert RandomResizedCrops(8, seed=0).box(4, 100) == (0, 47, 4, 5)


def test_a_cropped_training_differs_and_depends_on_seeds_alone(task, posterior):
    recipe = dataclasses.replace(RECIPE, crop=14)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = tda.sample_posterior(build, task, recipe, seeds=(446,), workers=1)
    assert torch.equal(before, torch.get_rng_state())
    two = tda.sample_posterior(build, task, recipe, seeds=(724, 446), workers=2)
    for name, value in one.states[0][1].items():
        assert torch.equal(value, two.states[1][1][name]), name
    assert not torch.equal(
        one.states[0][1]["classifier.weight"], posterior.states[0][1]["classifier.weight"]
    )
    seen = one.seen(task, 0, 1)
    assert seen.train_x.shape == (8, 1, 14, 14)
    assert not torch.equal(seen.test_x, one.seen(task, 0, 0).test_x)
    with torch.no_grad():
        logits = one.module(0, 1)(seen.test_x)
    wanted = nn.functional.cross_entropy(logits, task.test_y, reduction="none")
    np.testing.assert_allclose(one.losses(task)[0, 1], wanted, rtol=1e-5)
    gradients = (
        plain_gradients(one.module(0, 1), images, labels)
        for images, labels in ((seen.train_x, task.train_y), (seen.test_x, task.test_y))
    )
    train, test = gradients
    np.testing.assert_allclose(tda.grad_dot(one, task)[0, 1], train @ test.T, rtol=1e-3, atol=1e-5)


def test_bad_crops_are_refused():
    with pytest.raises(ValueError, match="crop is 0; it must be an integer"):
        tda.Recipe(crop=0)


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
        with pytest.raises(ValueError, match=f"image_size is {size!r}; .* multiple of 7"):
            vit.load_backbone("tiny", size)
    with pytest.raises(ValueError, match="channels is 2"):
        vit.LoRAVisionTransformer(2, "tiny")
    with pytest.raises(ValueError, match="backbone is 'tiny'; only model 'vit' has one"):
        tda.model_builder("cnn2", 1, backbone="tiny")
    with pytest.raises(FileNotFoundError, match=r"neither a folder .* pass its folder"):
        vit.load_backbone(str(tmp_path / "nothing"))


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
    with pytest.raises(FileNotFoundError, match=r"model.safetensors"):
        vit._loaded(folder)


def test_the_package_does_without_transformers():
    """It is not loaded until it is asked for, and one sentence says what is missing."""
    code = (
        "import sys; sys.modules['transformers'] = None; import tda_utils as tda\n"
        "assert 'onnx' not in sys.modules and 'peft' not in sys.modules\n"
        "try: tda.model_builder('vit', 1)\n"
        "except ImportError as problem: print(problem)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "model 'vit' needs the packages transformers and peft" in done.stdout
    assert "bayes-tda[vit]" in done.stdout
