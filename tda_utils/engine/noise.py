"""Random numbers of training beside the order: a stream for each use, dropout masks and crops.

Every stream comes from a seed that is passed down; nothing draws from the global random state.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tda_utils.models.states import copied_model

# What random numbers are for, so that one seed gives a stream for each use.
NOISE_STREAM, STEP_STREAM, UNPAIRED_STREAM, LOOK_STREAM, CROP_STREAM = 1, 2, 3, 4, 5
FLOOR_STREAM, CHECK_STREAM = 6, 7
LAPLACE_STREAM, LANGEVIN_STREAM, NEARBY_STREAM = 8, 9, 14


def derived_seed(seed: int, *path: int) -> int:
    """Return a seed for another stream of random numbers, given what it is for.

    Examples
    --------
    >>> derived_seed(446, NOISE_STREAM) == derived_seed(446, STEP_STREAM)
    False
    """
    sequence = np.random.SeedSequence([part % 2**64 for part in (seed, *path)])
    return int(sequence.generate_state(1, np.uint64)[0] >> 1)


def access_to_images(crop: int | None, noise_seed: int | None) -> Callable[[Tensor], Tensor]:
    """Return what images go through at each access: random crops, or nothing.

    Raises
    ------
    ValueError
        If crops have no seed.

    Examples
    --------
    >>> access_to_images(6, noise_seed=446)(torch.ones(2, 1, 8, 8)).shape
    torch.Size([2, 1, 6, 6])
    """
    if crop is None:
        return lambda images: images
    if noise_seed is None:
        raise ValueError(f"noise_seed is None; with crop={crop} each Job needs one.")
    return RandomResizedCrops(crop, derived_seed(noise_seed, CROP_STREAM))


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
        #: Where crops come from; its state says where in the stream.
        self.generator = torch.Generator().manual_seed(seed)

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
        return low + (high - low) * float(torch.rand((), generator=self.generator))

    def _up_to(self, largest: int) -> int:
        return int(torch.randint(largest + 1, (), generator=self.generator))


class SeededDropout(nn.Module):
    """Dropout with masks from a random generator of its own, not from the global one.

    Parameters
    ----------
    p : float
        Probability of a zero.
    channelwise : bool
        Whether whole channels (the second dimension) are dropped.
    generator : torch.Generator, optional
        Where masks come from. Masks do not depend on the type of number.

    Raises
    ------
    ValueError
        In training, if there is no generator.

    Examples
    --------
    >>> dropout = SeededDropout(0.5, False, torch.Generator().manual_seed(0))
    >>> dropout(torch.ones(4))
    tensor([0., 2., 0., 0.])
    >>> dropout.eval()(torch.ones(4))
    tensor([1., 1., 1., 1.])
    """

    def __init__(self, p: float, channelwise: bool, generator: torch.Generator | None) -> None:
        super().__init__()
        self.p, self._channelwise, self.generator = p, channelwise, generator

    def forward(self, input: Tensor) -> Tensor:  # As PyTorch's, which models may call by keyword.
        """Return the inputs, some set to zero and the others scaled up, or as they are."""
        if not self.training:
            return input
        if self.generator is None:
            raise ValueError(
                f"noise_seed is None; a model with dropout (p={self.p}) needs one in each Job."
            )
        whole = input.shape
        shape = (*whole[:2], *[1] * (len(whole) - 2)) if self._channelwise else whole
        kept = torch.rand(shape, generator=self.generator) >= self.p
        return input * kept.to(input.dtype).mul_(1 / (1 - self.p) if self.p < 1 else 0)


def with_seeded_dropout(model: nn.Module, seed: int | None) -> nn.Module:
    """Replace each layer of dropout in the model by one that draws from a stream of that seed.

    Examples
    --------
    >>> with_seeded_dropout(torch.nn.Sequential(torch.nn.Dropout(0.1)), seed=446)
    Sequential(
      (0): SeededDropout()
    )
    """
    kinds = {nn.Dropout: False, nn.Dropout1d: True, nn.Dropout2d: True, nn.Dropout3d: True}
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    for parent in list(model.modules()):
        for name, module in parent.named_children():
            if type(module) in kinds and module.p > 0:
                setattr(parent, name, SeededDropout(module.p, kinds[type(module)], generator))
    return model


def noise_generator(model: nn.Module) -> torch.Generator | None:
    """Return where the seeded dropout of a model draws from; None where it has no dropout.

    Examples
    --------
    >>> model = with_seeded_dropout(nn.Sequential(nn.Dropout(0.1)), 446)
    >>> noise_generator(model) is model[0].generator
    True
    """
    layers = (layer for layer in model.modules() if isinstance(layer, SeededDropout))
    return next((layer.generator for layer in layers), None)


def check_no_dropout(model: nn.Module) -> None:
    """Raise a `ValueError` if the model has dropout, which models in step cannot seed apart."""
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0:
            raise ValueError(
                f"model has dropout (p={module.p}) in layer {name!r}; on a card many models are "
                "trained in step and cannot draw masks of their own: pass device='cpu'."
            )


def check_own_randomness(model: nn.Module, images: Tensor) -> None:
    """Raise a `ValueError` if a forward pass in training draws from a global random state."""
    probe, drawing = with_seeded_dropout(copied_model(model), 0), []
    probe.train()
    before: list[tuple[object, ...]] = []
    for name, module in probe.named_modules():
        if not isinstance(module, torch.jit.ScriptModule):
            module.register_forward_pre_hook(lambda *_: before.append(_global_randomness()))
            module.register_forward_hook(
                lambda *_, name=name: (
                    None if before.pop() == _global_randomness() else drawing.append(name)
                )
            )
    with _kept_randomness(), torch.no_grad():
        try:
            probe(images[:2].clone())
        except Exception:
            # Batch normalisation refuses one image; what is wrong in earnest shows in training.
            return
    if drawing:
        kind = type(model.get_submodule(drawing[0])).__name__
        raise ValueError(
            "model draws from the global random state in training, so that no two runs agree, in "
            f"layer {drawing[0]!r} ({kind}); allowed is randomness in layers nn.Dropout and "
            "nn.Dropout1d to 3d, which get seeds: set any other to zero."
        )


def _global_randomness() -> tuple[object, ...]:
    """Return the global random states of PyTorch, NumPy and Python, to compare them."""
    _, key, *place = np.random.get_state()  # noqa: NPY002
    return torch.get_rng_state().numpy().tobytes(), key.tobytes(), *place, random.getstate()


@contextmanager
def _kept_randomness() -> Iterator[None]:
    """Leave the global random states as they were."""
    numpys, pythons = np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        np.random.set_state(numpys)  # noqa: NPY002
        random.setstate(pythons)
