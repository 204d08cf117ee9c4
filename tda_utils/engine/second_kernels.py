"""The passes between the products of matrices of `tda_utils.engine.fused_second`, compiled.

Max-pooling keeps one place of each window, and a small change of the parameters moves no winner. So
a change of the map before pooling is looked at in the winning places only, and what goes back is
sent to them, as in `tda_utils.engine.kernels`, whose transforms these passes use.
"""

from __future__ import annotations

import numpy as np

from tda_utils.engine.kernels import (
    _map_of_tiles,
    _route_places,
    _route_tiles,
    _tiles_of_map,
    compiled,
    inlined,
)


@compiled
def of_places(maps, place, values):
    """Read the winning place of each window of maps that are sorted by place in the window.

    Parameters
    ----------
    maps : ndarray, shape (n, 4, side * side, filters)
    place : ndarray, shape (n, side * side, filters), uint8
    values : ndarray, shape (n, side * side, filters)
        Written to.
    """
    n, places, filters = values.shape
    for sample in range(n):
        for position in range(places):
            for f in range(filters):
                a, b = maps[sample, 0, position, f], maps[sample, 1, position, f]
                c, d = maps[sample, 2, position, f], maps[sample, 3, position, f]
                where = place[sample, position, f]
                above, below = (a if where == 0 else b), (c if where == 2 else d)
                values[sample, position, f] = above if where < 2 else below


@compiled
def of_tiles(tiles, bias, outputs, place, values):
    """Transform tiles back to windows of two by two values, and read the winning places.

    Parameters
    ----------
    tiles : ndarray, shape (T * T, n * side * side, filters)
    bias : ndarray, shape (filters,)
    outputs : ndarray, shape (2, T)
        Winograd's output transform.
    place, values : ndarray
        As for `of_places`.
    """
    n, places, filters = values.shape
    across = np.empty((2, filters), tiles.dtype)
    window = np.empty((4, filters), tiles.dtype)
    for sample in range(n):
        for position in range(places):
            _window(tiles, sample * places + position, bias, outputs, across, window)
            for f in range(filters):
                where = place[sample, position, f]
                above = window[0, f] if where == 0 else window[1, f]
                below = window[2, f] if where == 2 else window[3, f]
                values[sample, position, f] = above if where < 2 else below


@inlined
def _window(tiles, tile, bias, outputs, across, window):
    """Transform one tile to a window, shape (4, filters)."""
    size, filters = outputs.shape[1], len(bias)
    for f in range(filters):
        window[0, f] = window[1, f] = window[2, f] = window[3, f] = bias[f]
    for v in range(size):
        for f in range(filters):
            across[0, f] = across[1, f] = 0
        for u in range(size):
            one = tiles[u * size + v, tile]
            a, b = outputs[0, u], outputs[1, u]
            for f in range(filters):
                across[0, f] += a * one[f]
                across[1, f] += b * one[f]
        a, b = outputs[0, v], outputs[1, v]
        for f in range(filters):
            window[0, f] += a * across[0, f]
            window[1, f] += b * across[0, f]
            window[2, f] += a * across[1, f]
            window[3, f] += b * across[1, f]


@compiled
def into_maps(values, slope, maps, margin):
    """Write values times slopes, shape (n, side * side, filters), into maps with a margin."""
    n, places, filters = values.shape
    side = maps.shape[1] - 2 * margin
    for sample in range(n):
        for position in range(places):
            row, column = position // side + margin, position % side + margin
            for f in range(filters):
                maps[sample, row, column, f] = (
                    values[sample, position, f] * slope[sample, position, f]
                )


@compiled
def out_of_maps(maps, margin, slope, bend, change, values):
    """Return what goes back into a window: errors times slopes, and bends times changes.

    Parameters
    ----------
    maps : ndarray, shape (n, side + 2 * margin, side + 2 * margin, filters)
        Errors after pooling.
    slope, bend, change : ndarray, shape (n, side * side, filters)
    values : ndarray, shape (n, side * side, filters)
        Written to.
    """
    n, places, filters = values.shape
    side = maps.shape[1] - 2 * margin
    for sample in range(n):
        for position in range(places):
            row, column = position // side + margin, position % side + margin
            for f in range(filters):
                values[sample, position, f] = (
                    maps[sample, row, column, f] * slope[sample, position, f]
                    + bend[sample, position, f] * change[sample, position, f]
                )


@compiled
def to_places(values, place, ones, maps):
    """Send values, shape (n, side, side, filters), to the winning places of `of_places`' maps."""
    for sample in range(len(values)):
        _route_places(values[sample], 0, ones, place[sample], maps[sample])


@compiled
def to_tiles(values, place, ones, outputs, tiles, by_bias):
    """Send values, shape (n, side, side, filters), to winning places, and transform the windows.

    The adjoint of `of_tiles`; adds to `by_bias`.
    """
    places = ones.shape[0]
    for sample in range(len(values)):
        _route_tiles(
            values[sample],
            0,
            ones,
            place[sample],
            outputs,
            tiles,
            sample * places,
            by_bias,
        )


@compiled
def tiles_of_maps(maps, inputs, side, tiles):
    """Cut maps into tiles and transform them, as `convolve` does."""
    for sample in range(len(maps)):
        _tiles_of_map(maps[sample], inputs, side, tiles, sample)


@compiled
def maps_of_tiles(tiles, inputs, side, maps):
    """Undo the transform and add up overlapping tiles: the adjoint of `tiles_of_maps`."""
    for sample in range(len(maps)):
        _map_of_tiles(tiles, sample * side * side, inputs, side, maps[sample])
