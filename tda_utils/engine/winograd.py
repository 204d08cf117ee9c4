"""Winograd's minimal filtering: the transforms between a small tile and its products.

Knows numbers alone; the passes of `tda_utils.engine.kernels` apply the transforms.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

# One half and minus two: with powers of two of one kind the rounding error is twice as large.
POINTS = ((0, 1), (1, 1), (-1, 1), (1, 2), (-2, 1))


def winograd(kernel: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the transforms of Winograd's minimal filtering F(2, kernel) in one dimension.

    Two neighbouring outputs of a filter with `kernel` taps are
    ``outputs @ ((filters @ weight) * (inputs @ values))``, with ``T = kernel + 1`` products in
    place of ``2 * kernel``.

    Parameters
    ----------
    kernel : int
        Taps of the filter: 1, 3 or 5. The number of products is even then, as `convolve` needs.

    Returns
    -------
    outputs : ndarray, shape (2, T), float64
    filters : ndarray, shape (T, kernel), float64
    inputs : ndarray, shape (T, T), float64

    Notes
    -----
    Toom and Cook's construction: polynomials are multiplied by their values at `POINTS` and at
    infinity, and the algorithm is transposed (Winograd, 1980; Lavin and Gray, 2016).

    Examples
    --------
    >>> outputs, filters, inputs = winograd(3)
    >>> values, weight = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 0.0, 2.0])
    >>> outputs @ ((filters @ weight) * (inputs @ values))
    array([ 7., 10.])
    """
    points = [Fraction(*point) for point in POINTS[:kernel]]
    outputs = np.zeros((2, kernel + 1))
    filters = np.zeros((kernel + 1, kernel))
    inputs = np.zeros((kernel + 1, kernel + 1))
    whole = _polynomial(points)
    outputs[1, -1] = filters[-1, -1] = 1
    inputs[-1] = [float(c) for c in whole]
    for j, point in enumerate(points):
        others = points[:j] + points[j + 1 :]
        scale = math.prod((point - other for other in others), start=Fraction(1))
        outputs[:, j] = 1, float(point)
        filters[j] = [float(point**power / scale) for power in range(kernel)]
        inputs[j, :-1] = [float(c) for c in _polynomial(others)]
    return outputs, filters, inputs


def _polynomial(roots: list[Fraction]) -> list[Fraction]:
    """Return the coefficients, lowest power first, of the product of ``x - root``."""
    coefficients = [Fraction(1)]
    for root in roots:
        shifted = [Fraction(0), *coefficients]
        scaled = [root * c for c in coefficients] + [Fraction(0)]
        coefficients = [a - b for a, b in zip(shifted, scaled, strict=True)]
    return coefficients


def numpy_dtype(dtype: torch.dtype) -> np.dtype:
    """Return numpy's name for a type of number."""
    return torch.empty(0, dtype=dtype).numpy().dtype


class Winograd:
    """The transforms of Winograd's minimal filtering F(2 x 2, k x k) in one type of number.

    Parameters
    ----------
    kernel : int
        Side of the kernel, k.
    dtype : torch.dtype
        Type of the numbers.
    """

    def __init__(self, kernel: int, dtype: torch.dtype) -> None:
        outputs, filters, inputs = winograd(kernel)
        numbers = numpy_dtype(dtype)
        self.outputs, self.inputs = outputs.astype(numbers), inputs.astype(numbers)
        self.filters = torch.from_numpy(np.kron(filters, filters)).to(dtype)

    def of_weight(self, weight: Tensor) -> Tensor:
        """Transform a weight, shape (k * k, channels, filters), to (T * T, channels, filters)."""
        return (self.filters @ weight.flatten(1)).view(-1, *weight.shape[1:])

    def of_gradient(self, tiles: Tensor, gradient: Tensor) -> None:
        """Write the derivative by the weight, given that by the transformed weight."""
        torch.mm(self.filters.T, tiles.flatten(1), out=gradient.flatten(1))
