"""The paper's two convolutional networks as plain PyTorch modules.

Layers are created in the order of the released code, so that a seed gives the same initialisation.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from tda_utils.checks import brief

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

    Parameter and errors are those of `CNN2L`; here the data sets differ in padding, not in kernels.

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
    if type(channels) is bool or channels not in tuple(table):
        raise ValueError(f"channels is {brief(channels)}; it must be 1 (MNIST) or 3 (CIFAR-10).")
    return table[channels]
