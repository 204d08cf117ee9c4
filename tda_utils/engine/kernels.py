"""The passes over memory between the matrix products of `FusedNetwork`, compiled by numba.

Each replaces half a dozen tensor operations by one loop that reads its input once. They use one
thread and release the interpreter's lock. Maps have their channels last; all arrays of a call are
of one type, float32 or float64.

A pooling window of two by two outputs is one tile of Winograd's minimal filtering F(2 x 2, k x k),
so a tile's transform and its pooling are one pass. GELU falls, then rises, so of the four values in
a window only the largest and the smallest can win; ReLU never falls, so the largest wins. The pass
keeps what backward needs: the activation's derivative at the value that won (the *slope*), and its
*place* in the window, 0 to 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numba
import numpy as np
import scipy.linalg.cython_blas  # noqa: F401  (np.dot in compiled code is that of scipy's BLAS)
from numba import types
from numba.extending import overload

from tda_utils.engine.machine_code import keep_code

# Rounding may differ from that of plain Python: a product and a sum in one step (contract), no care
# for the sign of zero. Sums are never taken in another order, and NaN stays NaN.
OPTIONS = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "nsz"}}
float32 = np.float32
# Activations before pooling, and GELU after it.
GELU, RELU, GELU_OF_LARGEST = 0, 1, 2


# Loops are turned into vector instructions only where nothing is called in them.
INLINE = {**OPTIONS, "forceinline": True}
inlined = numba.njit(**INLINE)


def compiled(function: Callable) -> Callable:
    """Compile at the first call, and keep the machine code beside this file as Python keeps .pyc.

    Where nothing can be written every process compiles for itself, and what is kept is read only
    if it is sound and of this source and version of numba.
    """
    return keep_code(numba.njit(**OPTIONS)(function))


def normal(x):
    """Return distribution function and density of the standard normal distribution at `x`.

    For compiled code only. In float64 to rounding; in float32 the distribution function has an
    absolute error below 3e-7 (Abramowitz and Stegun, 26.2.17), less than that of PyTorch's GELU.
    """
    raise NotImplementedError("normal is for compiled code.")


@overload(normal, jit_options=INLINE)
def _normal(x):
    return _normal_single if x == types.float32 else _normal_double


def _normal_double(x):
    density = 0.3989422804014327 * math.exp(-0.5 * x * x)
    return 0.5 * math.erfc(-0.7071067811865476 * x), density


def _normal_single(x):
    # Beyond 12 both are zero for every purpose; smaller numbers would lose their speed (denormals).
    size = min(abs(x), float32(12))
    density = float32(0.39894228) * _exp_of_negative(float32(-0.5) * size * size)
    t = float32(1) / (float32(1) + float32(0.2316419) * size)
    series = float32(1.330274429) * t + float32(-1.821255978)
    series = series * t + float32(1.781477937)
    series = series * t + float32(-0.356563782)
    series = series * t + float32(0.319381530)
    tail = density * series * t
    return (float32(1) - tail if x > 0 else tail), density


@inlined
def _exp_of_negative(exponent):
    """Return exp(x) of a float32 x <= 0: a power of two times a polynomial (Cephes' expf)."""
    power = np.floor(exponent * float32(1.44269504) + float32(0.5))
    # log(2) in two parts, so that the difference is exact.
    rest = exponent - power * float32(0.693359375) + power * float32(2.12194440e-4)
    series = float32(1.9875691500e-4) * rest + float32(1.3981999507e-3)
    series = series * rest + float32(8.3334519073e-3)
    series = series * rest + float32(4.1665795894e-2)
    series = series * rest + float32(1.6666665459e-1)
    series = series * rest + float32(5.0000001201e-1)
    series = series * rest * rest + rest + float32(1)
    two_to_the_power = np.int32((np.int32(power) + np.int32(127)) << np.int32(23)).view(float32)
    return series * two_to_the_power


@inlined
def _best(a, b, c, d):
    """Return the maximum of GELU over four values, GELU's slope there, and the place of it."""
    largest, smallest = max(max(a, b), max(c, d)), min(min(a, b), min(c, d))
    below_largest, at_largest = normal(largest)
    below_smallest, at_smallest = normal(smallest)
    gelu_largest, gelu_smallest = largest * below_largest, smallest * below_smallest
    slope_largest = below_largest + largest * at_largest
    slope_smallest = below_smallest + smallest * at_smallest
    won = gelu_largest >= gelu_smallest
    x = largest if won else smallest
    place = 0 if x == a else (1 if x == b else (2 if x == c else 3))
    return (
        gelu_largest if won else gelu_smallest,
        slope_largest if won else slope_smallest,
        place,
    )


@inlined
def _gelu(x):
    return x * normal(x)[0]


@inlined
def _best_value(a, b, c, d):
    """Return the maximum of GELU over four values."""
    return max(_gelu(max(max(a, b), max(c, d))), _gelu(min(min(a, b), min(c, d))))


@inlined
def _largest(a, b, c, d):
    """Return the largest of four values, and the place of it."""
    largest = max(max(a, b), max(c, d))
    return largest, 0 if largest == a else (1 if largest == b else (2 if largest == c else 3))


@inlined
def _pool_windows(a, b, c, d, activation, pooled, slope, place, keep):
    """Pool the windows with the values a, b, c and d, all of shape (filters,), of one position.

    Slope and place are written only to `keep` them.
    """
    filters = len(pooled)
    if activation == RELU:
        for f in range(filters):
            largest, where = _largest(a[f], b[f], c[f], d[f])
            # NaN is neither, and stays.
            pooled[f] = 0 if largest < 0 else largest
            if keep:
                slope[f] = 0 if largest <= 0 else 1
                place[f] = where
    elif activation == GELU_OF_LARGEST:
        for f in range(filters):
            largest, where = _largest(a[f], b[f], c[f], d[f])
            below, at = normal(largest)
            pooled[f] = largest * below
            if keep:
                slope[f] = below + largest * at
                place[f] = where
    elif keep:
        for f in range(filters):
            pooled[f], slope[f], place[f] = _best(a[f], b[f], c[f], d[f])
    else:
        for f in range(filters):
            pooled[f] = _best_value(a[f], b[f], c[f], d[f])


@inlined
def _pool_places(maps, activation, pooled, margin, slope, place, keep):
    """Activate and pool each window of one map sorted by place in the window.

    Shapes: `maps` (4, side * side, filters), `slope` and `place` (side * side, filters), and
    `pooled` (side + 2 * margin, side + 2 * margin, filters), whose margin is left alone.
    """
    side = pooled.shape[0] - 2 * margin
    for position in range(maps.shape[1]):
        row, column = position // side + margin, position % side + margin
        _pool_windows(
            maps[0, position],
            maps[1, position],
            maps[2, position],
            maps[3, position],
            activation,
            pooled[row, column],
            slope[position],
            place[position],
            keep,
        )


@inlined
def _route_places(errors, margin, slope, place, maps):
    """Send each window's error, times the slope, back to the place that won; zero elsewhere.

    Shapes as for `_pool_places`; `errors` that of `pooled`.
    """
    _, places, filters = maps.shape
    side = errors.shape[0] - 2 * margin
    for position in range(places):
        row, column = position // side + margin, position % side + margin
        for f in range(filters):
            error, where = errors[row, column, f] * slope[position, f], place[position, f]
            maps[0, position, f] = error if where == 0 else 0
            maps[1, position, f] = error if where == 1 else 0
            maps[2, position, f] = error if where == 2 else 0
            maps[3, position, f] = error if where == 3 else 0


@inlined
def _pool_tiles(tiles, sample, bias, outputs, activation, pooled, margin, slope, place, keep):
    """Transform one map's tiles back to windows of two by two values, and pool as `_pool_places`.

    Shapes: `tiles` (T * T, n * side * side, filters), of which those of number `sample` are read,
    `bias` (filters,), `outputs` (2, T), Winograd's output transform.
    """
    size, (places, filters) = outputs.shape[1], slope.shape
    side = pooled.shape[0] - 2 * margin
    across = np.empty((2, filters), tiles.dtype)
    window = np.empty((4, filters), tiles.dtype)
    for position in range(places):
        tile = sample * places + position
        for v in range(size):
            # Two rows at a time: half the passes over `across`.
            for u in range(0, size, 2):
                one = tiles[u * size + v, tile]
                other = tiles[(u + 1) * size + v, tile]
                a, b, c, d = outputs[0, u], outputs[0, u + 1], outputs[1, u], outputs[1, u + 1]
                if u == 0:
                    for f in range(filters):
                        across[0, f] = a * one[f] + b * other[f]
                        across[1, f] = c * one[f] + d * other[f]
                else:
                    for f in range(filters):
                        across[0, f] += a * one[f] + b * other[f]
                        across[1, f] += c * one[f] + d * other[f]
            first, second = outputs[0, v], outputs[1, v]
            if v == 0:
                for f in range(filters):
                    window[0, f] = bias[f] + first * across[0, f]
                    window[1, f] = bias[f] + second * across[0, f]
                    window[2, f] = bias[f] + first * across[1, f]
                    window[3, f] = bias[f] + second * across[1, f]
            else:
                for f in range(filters):
                    window[0, f] += first * across[0, f]
                    window[1, f] += second * across[0, f]
                    window[2, f] += first * across[1, f]
                    window[3, f] += second * across[1, f]
        row, column = position // side + margin, position % side + margin
        _pool_windows(
            window[0],
            window[1],
            window[2],
            window[3],
            activation,
            pooled[row, column],
            slope[position],
            place[position],
            keep,
        )


@inlined
def _route_tiles(errors, margin, slope, place, outputs, tiles, begin, by_bias):
    """Do as `_route_places`, and transform the windows: the adjoint of `_pool_tiles`.

    Writes tiles from `begin` on; adds to `by_bias`, the derivative by the bias.
    """
    size, (places, filters) = outputs.shape[1], slope.shape
    side = errors.shape[0] - 2 * margin
    window = np.empty((4, filters), tiles.dtype)
    across = np.empty((2, filters), tiles.dtype)
    for position in range(places):
        tile = begin + position
        row, column = position // side + margin, position % side + margin
        for f in range(filters):
            error, where = errors[row, column, f] * slope[position, f], place[position, f]
            by_bias[f] += error
            window[0, f] = error if where == 0 else 0
            window[1, f] = error if where == 1 else 0
            window[2, f] = error if where == 2 else 0
            window[3, f] = error if where == 3 else 0
        for u in range(size):
            first, second = outputs[0, u], outputs[1, u]
            for f in range(filters):
                across[0, f] = first * window[0, f] + second * window[2, f]
                across[1, f] = first * window[1, f] + second * window[3, f]
            for v in range(size):
                first, second = outputs[0, v], outputs[1, v]
                for f in range(filters):
                    tiles[u * size + v, tile, f] = first * across[0, f] + second * across[1, f]


@inlined
def _sparse(matrix):
    """Return places and values of the nonzeros of each row and their number, filled up to be even.

    Two terms are added at a time: half the passes over a short row of numbers.
    """
    size = len(matrix)
    place, value = np.zeros((size, size + 1), np.int64), np.zeros((size, size + 1), matrix.dtype)
    count = np.zeros(size, np.int64)
    for row in range(size):
        for column in range(size):
            if matrix[row, column] != 0:
                place[row, count[row]] = column
                value[row, count[row]] = matrix[row, column]
                count[row] += 1
        count[row] += count[row] % 2
    return place, value, count


@inlined
def _tiles_of_map(maps, inputs, side, tiles, sample):
    """Cut a map into overlapping tiles, two apart, and transform them to Winograd's domain.

    Shapes: `maps` (height, width, channels), its margin of zeros included, `inputs` (T, T),
    Winograd's input transform, `tiles` (T * T, n * side * side, channels), of which those of number
    `sample` are written.
    """
    size, channels = len(inputs), maps.shape[2]
    width = (2 * side + size - 2) * channels
    at, factors, terms = _sparse(inputs)
    strip = np.empty(width, maps.dtype)
    lines = maps.reshape(maps.shape[0], -1)
    for i in range(side):
        for u in range(size):
            # Down first, for a whole row of tiles: neighbours share two thirds of it.
            for term in range(0, terms[u], 2):
                one, other = lines[2 * i + at[u, term]], lines[2 * i + at[u, term + 1]]
                first, second = factors[u, term], factors[u, term + 1]
                if term == 0:
                    for c in range(width):
                        strip[c] = first * one[c] + second * other[c]
                else:
                    for c in range(width):
                        strip[c] += first * one[c] + second * other[c]
            for v in range(size):
                for j in range(side):
                    tile = tiles[u * size + v, (sample * side + i) * side + j]
                    for term in range(0, terms[v], 2):
                        left = strip[(2 * j + at[v, term]) * channels :]
                        right = strip[(2 * j + at[v, term + 1]) * channels :]
                        first, second = factors[v, term], factors[v, term + 1]
                        if term == 0:
                            for c in range(channels):
                                tile[c] = first * left[c] + second * right[c]
                        else:
                            for c in range(channels):
                                tile[c] += first * left[c] + second * right[c]


@inlined
def _map_of_tiles(tiles, begin, inputs, side, maps):
    """Undo the transform and add up overlapping tiles: the adjoint of `_tiles_of_map`.

    Reads tiles from `begin` on.
    """
    size, channels = len(inputs), maps.shape[2]
    width = (2 * side + size - 2) * channels
    at, factors, terms = _sparse(inputs.T)
    strip = np.empty(width, maps.dtype)
    lines = maps.reshape(maps.shape[0], -1)
    maps[:] = 0
    for i in range(side):
        for u in range(size):
            strip[:] = 0
            for b in range(size):
                for term in range(0, terms[b], 2):
                    one, other = u * size + at[b, term], u * size + at[b, term + 1]
                    first, second = factors[b, term], factors[b, term + 1]
                    for j in range(side):
                        tile, start = begin + i * side + j, (2 * j + b) * channels
                        for c in range(channels):
                            strip[start + c] += (
                                first * tiles[one, tile, c] + second * tiles[other, tile, c]
                            )
            for a in range(size):
                factor, line = inputs[u, a], lines[2 * i + a]
                if factor != 0:
                    for c in range(width):
                        line[c] += factor * strip[c]


class Layers(NamedTuple):
    """The convolutions after the first one, in order; activations are of all.

    Parameters
    ----------
    weights : tuple of ndarray, shape (T * T, channels, filters)
        Transformed to Winograd's domain.
    biases : tuple of ndarray, shape (filters,)
    inputs, outputs : tuple of ndarray, shapes (T, T) and (2, T)
        Winograd's transforms.
    activations : tuple of int
        `GELU`, `RELU` or `GELU_OF_LARGEST`.
    """

    weights: tuple[np.ndarray, ...]
    biases: tuple[np.ndarray, ...]
    inputs: tuple[np.ndarray, ...]
    outputs: tuple[np.ndarray, ...]
    activations: tuple[int, ...]


class Memory(NamedTuple):
    """What the convolutions write for a batch; tuples have an entry a layer.

    Parameters
    ----------
    maps : ndarray, shape (4 * places, filters)
        One sample's map after the first layer, sorted by place in the pooling window.
    pooled : tuple of ndarray, shape (n, side + 2 * margin, side + 2 * margin, filters)
        Maps after pooling, with the zeros that the next layer pads them with.
    margins : tuple of int
    slopes, places : tuple of ndarray, shape (n, side * side, filters)
        How the derivative finds the way back.
    tiles, products : tuple of ndarray, shape (T * T, n * side * side, channels or filters)
        What goes into the convolutions after the first one, and what comes out.
    errors : tuple of ndarray
        Derivatives by `pooled`.
    """

    maps: np.ndarray
    pooled: tuple[np.ndarray, ...]
    margins: tuple[int, ...]
    slopes: tuple[np.ndarray, ...]
    places: tuple[np.ndarray, ...]
    tiles: tuple[np.ndarray, ...]
    products: tuple[np.ndarray, ...]
    errors: tuple[np.ndarray, ...]


@compiled
def convolve(patches, chosen, first, layers, memory, chunk, keep):
    """Run convolutions, activations and pooling forwards; the last map is in ``memory.pooled[-1]``.

    Chunk by chunk, so that what one pass writes is still in the cache for the next.

    Parameters
    ----------
    patches : ndarray, shape (N, 4 * places, taps + 1)
        The patches under the first kernel, sorted by place in the pooling window.
    chosen : ndarray, shape (n,), int64
        The samples of the batch.
    first : ndarray, shape (taps + 1, filters)
        Weight and bias of the first convolution.
    layers : Layers
    memory : Memory
        Written to. It has room for the whole batch if `keep`, else for a chunk and the last map.
    chunk : int
        Samples at a time.
    keep : bool
        Whether `convolve_back` will follow.
    """
    depth = len(layers.weights)
    windows = memory.maps.reshape(4, -1, memory.maps.shape[1])
    for start in range(0, len(chosen), chunk):
        stop = min(start + chunk, len(chosen))
        base = start if keep else 0
        for sample in range(start, stop):
            here = base + sample - start
            np.dot(patches[chosen[sample]], first, memory.maps)
            _pool_places(
                windows,
                layers.activations[0],
                memory.pooled[0][here],
                memory.margins[0],
                memory.slopes[0][here],
                memory.places[0][here],
                keep,
            )
        for layer in range(depth):
            margin, tiles, products = (
                memory.margins[layer + 1],
                memory.tiles[layer],
                memory.products[layer],
            )
            side = memory.pooled[layer + 1].shape[1] - 2 * margin
            count = side * side
            for sample in range(start, stop):
                here = base + sample - start
                _tiles_of_map(memory.pooled[layer][here], layers.inputs[layer], side, tiles, here)
            rows, width = base * count, (stop - start) * count
            for q in range(len(tiles)):
                np.dot(tiles[q, rows : rows + width], layers.weights[layer][q], products[q, :width])
            for sample in range(start, stop):
                here = base + sample - start
                _pool_tiles(
                    products,
                    sample - start,
                    layers.biases[layer],
                    layers.outputs[layer],
                    layers.activations[layer + 1],
                    memory.pooled[layer + 1][sample if layer == depth - 1 else here],
                    margin,
                    memory.slopes[layer + 1][here],
                    memory.places[layer + 1][here],
                    keep,
                )


@compiled
def convolve_back(patches, chosen, layers, memory, chunk, by_first, by_weights, by_biases):
    """Run backwards what `convolve` kept, given the derivative by the last map.

    Parameters
    ----------
    patches, chosen, layers, memory, chunk
        As for `convolve`; ``memory.errors[-1]`` is the derivative, ``memory.tiles`` is overwritten.
    by_first : ndarray
        Derivative by `first`; added to.
    by_weights, by_biases : tuple of ndarray
        Derivatives by the weights, in Winograd's domain, and biases of `layers`; added to.
    """
    windows = memory.maps.reshape(4, -1, memory.maps.shape[1])
    part = np.empty_like(by_first)
    for start in range(0, len(chosen), chunk):
        stop = min(start + chunk, len(chosen))
        for layer in range(len(layers.weights) - 1, -1, -1):
            margin, tiles, products = (
                memory.margins[layer + 1],
                memory.tiles[layer],
                memory.products[layer],
            )
            side = memory.pooled[layer + 1].shape[1] - 2 * margin
            count = side * side
            for sample in range(start, stop):
                _route_tiles(
                    memory.errors[layer + 1][sample],
                    margin,
                    memory.slopes[layer + 1][sample],
                    memory.places[layer + 1][sample],
                    layers.outputs[layer],
                    products,
                    (sample - start) * count,
                    by_biases[layer],
                )
            rows, width = start * count, (stop - start) * count
            of_chunk = np.empty_like(layers.weights[layer][0])
            for q in range(len(tiles)):
                own, by_products = tiles[q, rows : rows + width], products[q, :width]
                np.dot(own.T, by_products, of_chunk)
                by_weights[layer][q] += of_chunk
                np.dot(by_products, layers.weights[layer][q].T, own)
            for sample in range(start, stop):
                errors = memory.errors[layer][sample]
                _map_of_tiles(tiles, sample * count, layers.inputs[layer], side, errors)
        for sample in range(start, stop):
            _route_places(
                memory.errors[0][sample],
                memory.margins[0],
                memory.slopes[0][sample],
                memory.places[0][sample],
                windows,
            )
            np.dot(patches[chosen[sample]].T, memory.maps, part)
            by_first += part


class Scratch(NamedTuple):
    """Working memory of `sample_gradients`; tuples have an entry a layer after the first one.

    Parameters
    ----------
    by_maps : tuple of ndarray, shape (height, width, channels)
        Derivatives by what goes into the layer.
    by_products, by_tiles : tuple of ndarray, shape (T * T, places, filters or channels)
    by_weights : tuple of ndarray, shape (T * T, channels, filters)
        In Winograd's domain.
    """

    by_maps: tuple[np.ndarray, ...]
    by_products: tuple[np.ndarray, ...]
    by_tiles: tuple[np.ndarray, ...]
    by_weights: tuple[np.ndarray, ...]


@compiled
def sample_gradients(patches, chosen, layers, filters, memory, scratch, errors, by_first, rows):
    """Write the gradients of each sample by the convolutions' parameters, after `convolve`.

    One at a time, so that all of it stays in the cache of a core.

    Parameters
    ----------
    patches, chosen, layers, memory
        As for `convolve`.
    filters : tuple of ndarray, shape (T * T, k * k)
        Winograd's transforms of the weights.
    scratch : Scratch
    errors : ndarray, shape (n, repeats, side, side, filters)
        Derivatives by the last map, several a sample.
    by_first : ndarray, shape (n, repeats, taps + 1, filters)
        Gradients by `first`; written to.
    rows : tuple of ndarray, shape (n, repeats, k * k * channels * filters + filters)
        Gradients by weight and bias of `layers`; written to.
    """
    n, repeats = errors.shape[:2]
    windows = memory.maps.reshape(4, -1, memory.maps.shape[1])
    last = len(layers.weights) - 1
    for sample, r in [(s, r) for s in range(n) for r in range(repeats)]:
        for layer in range(last, -1, -1):
            margin, tiles = memory.margins[layer + 1], memory.tiles[layer]
            side = memory.pooled[layer + 1].shape[1] - 2 * margin
            by_products, by_weights = scratch.by_products[layer], scratch.by_weights[layer]
            size, channels, width = layers.weights[layer].shape
            row = rows[layer][sample, r]
            row[-width:] = 0
            by_map = errors[sample, r]
            _route_tiles(
                by_map if layer == last else scratch.by_maps[layer + 1],
                margin,
                memory.slopes[layer + 1][sample],
                memory.places[layer + 1][sample],
                layers.outputs[layer],
                by_products,
                0,
                row[-width:],
            )
            begin, end = sample * side * side, (sample + 1) * side * side
            for q in range(size):
                np.dot(tiles[q, begin:end].T, by_products[q], by_weights[q])
                np.dot(by_products[q], layers.weights[layer][q].T, scratch.by_tiles[layer][q])
            by_weight = row[:-width].reshape(-1, channels * width)
            np.dot(filters[layer].T, by_weights.reshape(size, channels * width), by_weight)
            by_map = scratch.by_maps[layer]
            _map_of_tiles(scratch.by_tiles[layer], 0, layers.inputs[layer], side, by_map)
        _route_places(
            scratch.by_maps[0],
            memory.margins[0],
            memory.slopes[0][sample],
            memory.places[0][sample],
            windows,
        )
        np.dot(patches[chosen[sample]].T, memory.maps, by_first[sample, r])


@compiled
def adam_step(parameters, gradient, mean, mean_of_squares, constants):
    """Take one step of Adam, as `torch.optim.Adam` does, in one pass.

    Parameters
    ----------
    parameters, gradient, mean, mean_of_squares : ndarray, shape (n,)
        All but the gradient are changed.
    constants : tuple of numbers
        From `adam_constants`.
    """
    decay, new, new_square, rate, root_factor, epsilon = constants
    for i in range(len(parameters)):
        slope = gradient[i] + decay * parameters[i]
        mean[i] += new * (slope - mean[i])
        mean_of_squares[i] += new_square * (slope * slope - mean_of_squares[i])
        parameters[i] -= rate * mean[i] / (math.sqrt(mean_of_squares[i]) * root_factor + epsilon)


def adam_constants(
    step: float, lr: float, weight_decay: float, dtype: np.dtype
) -> tuple[np.floating, ...]:
    """Return what `adam_step` needs at the given step, counted from one."""
    beta1, beta2, epsilon = 0.9, 0.999, 1e-8
    rate, root_factor = lr / (1 - beta1**step), (1 - beta2**step) ** -0.5
    values = (weight_decay, 1 - beta1, 1 - beta2, rate, root_factor, epsilon)
    return tuple(dtype.type(value) for value in values)
