"""Random resized crops, drawn from a generator that is passed down.

The released code crops images at random at each access, those of the test set too. torchvision's
own transform draws from the global random state; this one has the same distribution.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

# The defaults of torchvision's RandomResizedCrop: share of the area, and width over height.
SCALE = (0.08, 1.0)
RATIO = (3 / 4, 4 / 3)
ATTEMPTS = 10


class RandomResizedCrops:
    """Crops each image at random and brings it to size x size pixels, bilinear with antialiasing.

    Parameters
    ----------
    size : int
        Side of the crops in pixels.
    seed : int
        Of the stream that crops come from; each call goes on in it.

    Notes
    -----
    The area's share is uniform in 0.08 to 1 and the logarithm of the ratio of width to height
    uniform in log 3/4 to log 4/3. A crop that does not fit into the image is drawn again, up to ten
    times, then the largest central one of an allowed ratio is taken. Source: torchvision's
    RandomResizedCrop, whose defaults these are.

    Examples
    --------
    >>> RandomResizedCrops(4, seed=0)(torch.ones(2, 1, 8, 8)).shape
    torch.Size([2, 1, 4, 4])
    """

    def __init__(self, size: int, seed: int) -> None:
        self._size = size
        self._generator = torch.Generator().manual_seed(seed)

    def __call__(self, images: Tensor) -> Tensor:
        """Return one crop of each image: (n, channels, height, width) to (n, channels, s, s)."""
        if images.ndim != 4:
            raise ValueError(
                f"crop is {self._size}, and inputs have shape {tuple(images.shape[1:])}; only "
                "images (channels, height, width) can be cropped."
            )
        size = (self._size, self._size)
        crops = []
        for image in images:
            top, left, height, width = self.box(*image.shape[-2:])
            part = image[None, :, top : top + height, left : left + width]
            crops.append(
                F.interpolate(part, size, mode="bilinear", align_corners=False, antialias=True)
            )
        return torch.cat(crops)

    def box(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Draw a crop: its top, left, height and width."""
        for _ in range(ATTEMPTS):
            area = height * width * self._uniform(*SCALE)
            ratio = math.exp(self._uniform(math.log(RATIO[0]), math.log(RATIO[1])))
            across, down = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < across <= width and 0 < down <= height:
                top, left = self._up_to(height - down), self._up_to(width - across)
                return top, left, down, across
        across = min(width, round(height * RATIO[1]))
        down = min(height, round(width / RATIO[0]))
        return (height - down) // 2, (width - across) // 2, down, across

    def _uniform(self, low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=self._generator))

    def _up_to(self, largest: int) -> int:
        return int(torch.randint(largest + 1, (), generator=self._generator))
