"""The dual solve against the Gauss-Newton matrix written out."""

import numpy as np
import torch

import tda_utils as tda
from tda_utils import sample_posterior
from tests.plain import autograd_gradients, dense_gauss_newton
from tests.tiny import SHORT, build_tiny_cnn


def test_gauss_newton_influence_equals_a_dense_float64_solve(tiny_task, tiny_posterior):
    tau = tda.influence(tiny_posterior, tiny_task, damping=5e-3)
    for member, checkpoint in ((0, 0), (2, 1)):
        model = tiny_posterior.module(member, checkpoint).double()
        train = autograd_gradients(model, tiny_task.train_x.double(), tiny_task.train_y)
        test = autograd_gradients(model, tiny_task.test_x.double(), tiny_task.test_y)
        curvature = dense_gauss_newton(model, tiny_task.train_x.double())
        curvature += 5e-3 * torch.eye(len(curvature))
        wanted = train @ torch.linalg.solve(curvature, test.T) / tiny_task.n_train
        error = float(
            abs(tau[member, checkpoint].values - wanted.numpy()).max() / abs(wanted).max()
        )
        assert error < 1e-7
    assert float(tau.residual.max()) < 1e-10


def test_weights_count_in_the_curvature_and_in_the_sample_that_is_left_out(tiny_task):
    weights = torch.linspace(0.5, 1.5, 12)[None]
    posterior = sample_posterior(build_tiny_cnn, tiny_task, SHORT, (446,), weights=weights)
    factors, n = weights[0].double(), tiny_task.n_train
    model, images = posterior.module(0, 1).double(), tiny_task.train_x.double()
    curvature = sum(
        factor * dense_gauss_newton(model, image[None]) / n
        for factor, image in zip(factors, images, strict=True)
    )
    curvature += 5e-3 * torch.eye(len(curvature))
    train = autograd_gradients(model, images, tiny_task.train_y)
    test = autograd_gradients(model, tiny_task.test_x.double(), tiny_task.test_y)
    wanted = factors[:, None] * (train @ torch.linalg.solve(curvature, test.T)) / n
    tau = tda.influence(posterior, tiny_task)[0, 1]
    np.testing.assert_allclose(tau, wanted, rtol=0, atol=1e-7 * float(wanted.abs().max()))
