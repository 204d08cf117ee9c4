"""Models near a trained one, as cheap stand-ins for other seeds: last-layer Laplace, and Langevin.

Both take the last checkpoint of each member and return draws from around it, in place of its
checkpoints, so that every method works on them as on any posterior.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import scipy.linalg
import torch
from torch import Tensor, nn

from tda_utils.attribution.gradients import like_parameters
from tda_utils.checks import check_count, check_number, check_seed
from tda_utils.data.task import Task
from tda_utils.engine.noise import LANGEVIN_STREAM, LAPLACE_STREAM, derived_seed
from tda_utils.models.states import State, state_of
from tda_utils.posterior import Posterior


def last_layer_laplace(
    posterior: Posterior, task: Task, draws: int, precision: float, seed: int = 0
) -> Posterior:
    r"""Draw the last linear layer from a normal distribution around its trained weights.

    .. math:: W \sim N\Big(\hat W,\ \big(\sum_i (\mathrm{diag}\, p_i - p_i p_i^T) \otimes
              \phi_i \phi_i^T + \lambda I\big)^{-1}\Big)

    with :math:`\phi_i` what reaches the layer from training sample :math:`i`, and a one for its
    bias, and :math:`p_i` its predicted probabilities: the Hessian of the summed cross-entropy,
    which for a last layer is the Gauss-Newton matrix itself. All other layers stay.

    Parameters
    ----------
    posterior : Posterior
        Of each member the last checkpoint is taken.
    task : Task
        With cross-entropy as its loss, the data it was trained on.
    draws : int
    precision : float
        :math:`\lambda`, of the prior, above 0. For Adam with weight decay it is nominally the
        number of training samples times the decay.
    seed : int
        Of the draws; those of a member depend on its own seed, too.

    Returns
    -------
    Posterior
        With the draws in place of checkpoints.

    Raises
    ------
    TypeError, ValueError
        If the model does not end in a linear layer, or an argument is out of its range.

    Notes
    -----
    Source: E. Daxberger et al., Laplace Redux, NeurIPS 2021, arXiv 2106.14806.
    """
    check_number("precision", precision)

    def around(model: nn.Module, generator: torch.Generator) -> list[State]:
        name, layer, features = _last_layer(model, like_parameters(model, task.train_x))
        features = features.detach()
        probabilities = layer(features).detach().double().softmax(1).numpy()
        root = precision_root(features.double().numpy(), probabilities, precision)
        found = []
        for _ in range(draws):
            noise = torch.randn(len(root), generator=generator, dtype=torch.float64).numpy()
            moved = scipy.linalg.solve_triangular(root.T, noise, lower=False)
            moved = torch.from_numpy(moved).reshape(layer.out_features, -1).to(features)
            state = dict(state_of(model))
            state[f"{name}weight"] = state[f"{name}weight"] + moved[:, :-1]
            state[f"{name}bias"] = state[f"{name}bias"] + moved[:, -1]
            found.append(state)
        return found

    return _around(posterior, draws, seed, LAPLACE_STREAM, around)


def precision_root(features: np.ndarray, probabilities: np.ndarray, precision: float) -> np.ndarray:
    """Return the lower Cholesky factor of the precision of a last layer, float64.

    Parameters
    ----------
    features : ndarray, (samples, inputs)
    probabilities : ndarray, (samples, outputs)
    precision : float
        Of the prior.

    Returns
    -------
    ndarray, (outputs * (inputs + 1), same)
        Weights of one output after those of another, each with its bias last.

    Examples
    --------
    >>> root = precision_root(np.array([[1.0]]), np.array([[0.5, 0.5]]), 1.0)
    >>> (root @ root.T).round(2)
    array([[ 1.25,  0.25, -0.25, -0.25],
           [ 0.25,  1.25, -0.25, -0.25],
           [-0.25, -0.25,  1.25,  0.25],
           [-0.25, -0.25,  0.25,  1.25]])
    """
    inputs = np.c_[features, np.ones(len(features))]
    curvature = probabilities[:, :, None] * np.eye(probabilities.shape[1])
    curvature = curvature - probabilities[:, :, None] * probabilities[:, None, :]
    size = inputs.shape[1] * probabilities.shape[1]
    hessian = np.einsum("iab,ic,id->acbd", curvature, inputs, inputs, optimize=True)
    hessian = hessian.reshape(size, size)
    hessian[np.diag_indices(size)] += precision
    return np.linalg.cholesky(hessian)


def langevin(
    posterior: Posterior,
    task: Task,
    draws: int,
    every: int,
    step: float,
    temperature: float = 1.0,
    seed: int = 0,
) -> Posterior:
    r"""Walk on from each member's last checkpoint by stochastic gradient Langevin dynamics.

    .. math:: \theta \leftarrow \theta - \tfrac{\epsilon}{2} n \big(\nabla \tfrac1{|B|}
              \sum_{i \in B} \ell_i(\theta) + \lambda \theta\big) + \sqrt{\epsilon T}\, \xi

    with :math:`\epsilon` the step, :math:`n` training samples, :math:`\lambda` the weight decay of
    the recipe, :math:`T` the temperature and :math:`\xi` standard normal noise.

    Parameters
    ----------
    posterior : Posterior
        That knows its recipe. Of each member the last checkpoint is taken.
    task : Task
        The data it was trained on.
    draws, every : int
        How many models are kept, and steps from one to the next. A step costs a gradient of a
        batch, as a step of training does.
    step, temperature : float
        Above 0.
    seed : int
        Of noise and batches; those of a member depend on its own seed, too.

    Returns
    -------
    Posterior
        With the draws in place of checkpoints.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of its range, or the posterior does not know its recipe.

    Notes
    -----
    Source: M. Welling and Y. W. Teh, Bayesian learning via stochastic gradient Langevin dynamics,
    ICML 2011. With a temperature below 1 the posterior is a colder one.
    """
    check_count("every", every)
    check_number("step", step)
    check_number("temperature", temperature)
    if posterior.recipe is None:
        raise ValueError("posterior does not know its recipe, whose batches and decay are needed.")
    batch, decay = posterior.recipe.batch_size, posterior.recipe.weight_decay

    def around(model: nn.Module, generator: torch.Generator) -> list[State]:
        found, inputs = [], like_parameters(model, task.train_x)
        parameters = [own for own in model.parameters() if own.requires_grad]
        for at in range(1, draws * every + 1):
            rows = torch.randperm(task.n_train, generator=generator)[:batch]
            losses = task.objective.losses(model(inputs[rows]), task.train_y[rows])
            gradients = torch.autograd.grad(losses.mean(), parameters)
            with torch.no_grad():
                for own, gradient in zip(parameters, gradients, strict=True):
                    own -= step / 2 * task.n_train * (gradient + decay * own)
                    noise = torch.randn(own.shape, generator=generator, dtype=own.dtype)
                    own += (step * temperature) ** 0.5 * noise
            if at % every == 0:
                found.append({name: own.clone() for name, own in state_of(model).items()})
        return found

    return _around(posterior, draws, seed, LANGEVIN_STREAM, around)


def _around(
    posterior: Posterior,
    draws: int,
    seed: int,
    stream: int,
    draw: Callable[[nn.Module, torch.Generator], list[State]],
) -> Posterior:
    """Return the draws of all members as a posterior."""
    check_count("draws", draws)
    check_seed("seed", seed)
    if posterior.order_seeds is None:
        raise ValueError("posterior has no seeds; those of its draws are derived from them.")
    states = []
    for member, own_seed in enumerate(posterior.order_seeds):
        generator = torch.Generator().manual_seed(derived_seed(own_seed, stream, seed))
        states.append(draw(posterior.module(member, posterior.checkpoints - 1), generator))
    adam = posterior.adam
    if adam is not None:  # the optimiser's memory is that of the checkpoint
        adam = [[own[-1]] * draws for own in adam]
    return replace(posterior, states=states, epochs=tuple(range(1, draws + 1)), adam=adam)


def _last_layer(model: nn.Module, inputs: Tensor) -> tuple[str, nn.Linear, Tensor]:
    """Return the name with its dot, the layer that gives the logits, and what reaches it."""
    linear = {name: own for name, own in model.named_modules() if isinstance(own, nn.Linear)}
    reached: dict[str, Tensor] = {}
    hooks = [
        own.register_forward_hook(lambda _, given, __, name=name: reached.update({name: given[0]}))
        for name, own in linear.items()
    ]
    with torch.no_grad():
        outputs = model(inputs)
        for hook in hooks:
            hook.remove()
        for name, own in reversed(linear.items()):
            features = reached.get(name)
            ends = features is not None and features.ndim == 2 and own.bias is not None
            if ends and torch.equal(own(features), outputs):
                return f"{name}." if name else "", own, features
    raise ValueError("the model does not end in a linear layer with a bias, which must be last.")
