"""The passes of second derivatives against their definitions, and each against its adjoint."""

import numpy as np

from tda_utils.engine import second_kernels as passes
from tda_utils.engine.winograd import winograd

N, SIDE, FILTERS, MARGIN = 2, 3, 4, 1
RNG = np.random.default_rng(0)
PLACE = RNG.integers(0, 4, (N, SIDE**2, FILTERS)).astype(np.uint8)
SHAPE, SQUARES = PLACE.shape, (N, SIDE, SIDE, FILTERS)
ONES = np.ones(SHAPE[1:])
MAPS = (N, SIDE + 2 * MARGIN, SIDE + 2 * MARGIN, FILTERS)


def test_winning_places_are_read_and_written_to():
    maps = RNG.normal(size=(N, 4, SIDE**2, FILTERS))
    values = np.empty(SHAPE)
    passes.of_places(maps, PLACE, values)
    wanted = np.take_along_axis(maps, PLACE[:, None].astype(int), 1)[:, 0]
    np.testing.assert_array_equal(values, wanted)
    errors, back = RNG.normal(size=SHAPE), np.empty_like(maps)
    passes.to_places(errors.reshape(SQUARES), PLACE, ONES, back)
    np.testing.assert_allclose((back * maps).sum(), (errors * values).sum())
    assert (np.count_nonzero(back, axis=1) == 1).all()


def test_tiles_become_windows_of_which_the_winning_place_is_read():
    outputs = winograd(3)[0]
    tiles, bias = RNG.normal(size=(16, N * SIDE**2, FILTERS)), RNG.normal(size=FILTERS)
    values = np.empty(SHAPE)
    passes.of_tiles(tiles, bias, outputs, PLACE, values)
    windows = np.einsum("iu,jv,uvpf->pijf", outputs, outputs, tiles.reshape(4, 4, -1, FILTERS))
    windows = windows.reshape(N, SIDE**2, 4, FILTERS) + bias
    wanted = np.take_along_axis(windows, PLACE[:, :, None].astype(int), 2)[:, :, 0]
    np.testing.assert_allclose(values, wanted, rtol=1e-12, atol=1e-12)
    errors, back, by_bias = RNG.normal(size=SHAPE), np.empty_like(tiles), np.zeros(FILTERS)
    passes.to_tiles(errors.reshape(SQUARES), PLACE, ONES, outputs, back, by_bias)
    there = (errors * values).sum()
    np.testing.assert_allclose((back * tiles).sum() + by_bias @ bias, there, rtol=1e-9)


def test_maps_with_a_margin():
    values, slope, bend, change = RNG.normal(size=(4, *SHAPE))
    maps = np.zeros(MAPS)
    passes.into_maps(values, slope, maps, MARGIN)
    inner = maps[:, MARGIN:-MARGIN, MARGIN:-MARGIN]
    np.testing.assert_allclose(inner, (values * slope).reshape(SQUARES))
    assert np.count_nonzero(maps) == np.count_nonzero(inner)
    errors, found = RNG.normal(size=MAPS), np.empty(SHAPE)
    passes.out_of_maps(errors, MARGIN, slope, bend, change, found)
    inner = errors[:, MARGIN:-MARGIN, MARGIN:-MARGIN].reshape(SHAPE)
    np.testing.assert_allclose(found, inner * slope + bend * change)


def test_tiles_of_maps_and_their_adjoint():
    inputs = winograd(3)[2]
    maps = RNG.normal(size=(N, 2 * SIDE + 2, 2 * SIDE + 2, FILTERS))
    tiles = np.empty((16, N * SIDE**2, FILTERS))
    passes.tiles_of_maps(maps, inputs, SIDE, tiles)
    cut = maps[1, 2:6, 4:8]  # The tile in row one and column two of the second map.
    wanted = np.einsum("ua,vb,abf->uvf", inputs, inputs, cut).reshape(16, FILTERS)
    np.testing.assert_allclose(tiles[:, SIDE**2 + SIDE + 2], wanted, rtol=1e-12, atol=1e-12)
    errors, back = RNG.normal(size=tiles.shape), np.empty_like(maps)
    passes.maps_of_tiles(errors.copy(), inputs, SIDE, back)
    np.testing.assert_allclose((back * maps).sum(), (errors * tiles).sum(), rtol=1e-9)
