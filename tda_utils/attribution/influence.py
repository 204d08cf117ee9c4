"""Influence functions: what leaving out a sample would do to first order, without retraining.

::

    tau(z_j, z) = 1/n  grad L(z)^T (H + damping I)^{-1} grad L(z_j)

With n the number of training samples, and removal sign, it is an estimate, in nats, of
leave-one-out. `solver="ggn"` takes for H the Gauss-Newton matrix, which is positive semi-definite,
and solves exactly through the dual (Woodbury) form on the training samples x logits kernel. That
kernel has a row for each sample and logit, too many for 60,000 samples; there `solver="ekfac"`
approximates the same matrix layer by layer (`tda_utils.attribution.ekfac`). The exact Hessian of
these networks has negative eigenvalues well below -5e-3, so "influence with the Hessian" and that
damping is not defined; `solver="hessian"` measures the smallest eigenvalue and refuses.
`solver="lissa"` is the recursion of the released code.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import scipy.linalg
import scipy.sparse.linalg as sparse_linalg
import torch
import torch.nn.functional as F
import xarray as xr
from torch import Tensor, nn

from tda_utils.attribution import ekfac
from tda_utils.attribution.gradients import (
    Block,
    Dense,
    GradientMethod,
    gradient_method,
    gram,
    joined,
    like_parameters,
    of_chunks,
)
from tda_utils.attribution.scores import Protocol, as_scores, check_inputs
from tda_utils.checks import check_choice, check_number
from tda_utils.data import Task
from tda_utils.learners import trainable_parameters
from tda_utils.parallel import (
    chosen_device,
    float32_arithmetic,
    parallel_map_nested,
    workers_on,
)
from tda_utils.posterior import Posterior, all_finite

Solver = Literal["ggn", "ekfac", "hessian", "lissa"]
SOLVERS = ("ggn", "ekfac", "hessian", "lissa")
LISSA_SCALE = 1e4  # The released code's; so large that the recursion hardly moves.
LISSA_BATCH = 8
# What a batch has done shrinks by 1 - damping in each later step; below that it is left out.
LISSA_FORGOTTEN = 1e-4


def influence(
    posterior: Posterior,
    task: Task,
    *,
    solver: Solver | None = None,
    damping: float = 5e-3,
    protocol: Protocol = "paired",
    sign_seed: int = 0,
    workers: int | None = None,
    device: str | torch.device = "auto",
) -> xr.DataArray:
    """Influence of each training sample on the loss of each test sample.

    Parameters
    ----------
    posterior : Posterior
        The trained models.
    task : Task
        Training and test samples.
    solver : {"ggn", "ekfac", "hessian", "lissa"}, optional
        ``"ggn"``: Gauss-Newton, solved exactly in float64; memory and time grow with the square and
        the cube of samples x logits. ``"ekfac"``: an approximation of it, diagonal in a Kronecker
        eigenbasis of each layer, in the model's type of number; time grows with the number of
        samples, memory does not. ``"hessian"``: the exact Hessian by conjugate gradients in
        float64, only where it is positive definite with the damping.
        ``"lissa"``: what the released code computes: one pass of batches of 8 in file order, scale
        1e4, no factor 1/n; of more than some thousand batches, those that a damping of 5e-3 makes
        it forget are left out. Default: ``"ggn"`` under ``protocol="paired"``, ``"lissa"``
        under ``"released"``.
    damping : float
        Multiple of the identity added to the curvature. The default 5e-3 is the weight decay of the
        paper's training, which is part of its objective.
    protocol : {"paired", "released"}
        ``"released"`` has up-weighting sign.
    sign_seed : int
        Only for ``"ekfac"`` on more than 10,000 samples x logits: seed of the random signs that
        stand for the mean over logits; with fewer, the mean is taken.
    workers : int, optional
        Posterior samples at the same time. Default: one a core; on a CUDA card always one.
    device : {"auto", "cpu", "cuda"}
        Where gradients are computed; ``"auto"`` is CUDA where there is a card.

    Returns
    -------
    DataArray, dims (member, checkpoint, train, test)
        In nats, removal sign; only ``"lissa"`` lacks the factor 1/n and has a scale of its own.
        float64 for ``"ggn"`` and ``"hessian"``, the model's type for the others. The coordinate
        ``residual``, dims (member, checkpoint), holds the relative residual of the linear solve
        where there is one: for ``"ggn"`` and ``"hessian"``.

    Raises
    ------
    ValueError
        If an argument does not fit, or the Hessian plus damping is not positive definite.

    Warns
    -----
    RuntimeWarning
        If with ``"ggn"`` no curvature reaches the damping, so that the damping decides.

    Notes
    -----
    Source: paper, section on attribution methods (IF); Koh and Liang (2017) for the derivation;
    George et al. (2018) and Grosse et al. (2023) for ``"ekfac"``.

    Examples
    --------
    >>> from tda_utils import Recipe, load_task, sample_posterior
    >>> task = load_task("mnist3", per_class=10, test_per_class=1)
    >>> build = lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    >>> posterior = sample_posterior(build, task, Recipe(epochs=1, keep_last=1), seeds=[446])
    >>> tau = influence(posterior, task)
    >>> bool(tau.residual.max() < 1e-10)
    True
    """
    check_inputs(posterior, task, protocol)
    solver = solver or ("lissa" if protocol == "released" else "ggn")
    check_choice("solver", solver, SOLVERS)
    if (solver == "lissa") != (protocol == "released"):
        raise ValueError(
            f"solver is {solver!r} under protocol={protocol!r}; 'lissa' belongs to 'released', the "
            "others to 'paired'."
        )
    check_number("damping", damping)
    place = chosen_device(device)
    method = gradient_method(
        posterior.module(0, 0).to(place), posterior.seen(task, 0, 0).train_x, task.train_y
    )
    solve = {"ggn": _gauss_newton, "ekfac": _ekfac, "hessian": _hessian, "lissa": _lissa}[solver]

    def scores_of(sample: tuple[int, int], workers: int) -> tuple[np.ndarray, float]:
        if not all_finite(posterior.states[sample[0]][sample[1]]):
            return np.full((task.n_attributed, task.n_test), np.nan), math.nan
        member, checkpoint = posterior.member_labels[sample[0]], posterior.epochs[sample[1]]
        problem = Problem(
            lambda: posterior.module(*sample).to(place),
            posterior.seen(task, *sample),
            method,
            damping,
            None if posterior.weights is None else posterior.weights[sample[0]],
            f"member {member}, checkpoint {checkpoint}",
            workers,
            sign_seed,
        )
        return solve(problem)

    with float32_arithmetic(place):
        solved = parallel_map_nested(
            scores_of, posterior.samples, workers=workers_on(place, workers), describe="influence"
        )
    shape = (posterior.members, posterior.checkpoints)
    scores = as_scores(
        np.stack([values for values, _ in solved]).reshape(*shape, task.n_attributed, task.n_test),
        posterior,
        task,
        method="influence",
        protocol=protocol,
        sign="upweighting" if protocol == "released" else "removal",
        solver=solver,
        damping=damping,
    )
    if solver in ("ekfac", "lissa"):
        return scores
    residuals = np.array([residual for _, residual in solved]).reshape(shape)
    return scores.assign_coords(residual=(("member", "checkpoint"), residuals))


class Problem(NamedTuple):
    """Influence of one posterior sample."""

    module: Callable[[], nn.Module]  # A copy of the model; each thread needs its own.
    task: Task
    method: GradientMethod
    damping: float
    weights: Tensor | None  # Factors on the losses of the training samples.
    where: str
    workers: int
    sign_seed: int


def _gauss_newton(problem: Problem) -> tuple[np.ndarray, float]:
    """Solve with the Gauss-Newton matrix in dual form.

    With the rows of B the logit gradients, mixed by a square root of each sample's loss curvature,
    ``G = B^T B`` and ``(B^T B + d I)^{-1} = (I - B^T (B B^T + d I)^{-1} B) / d``. A common shift of
    all logits changes no loss, so of k logits only k - 1 differences are needed.
    """
    task, damping, n = problem.task, problem.damping, problem.task.n_train
    model = problem.module().double()
    images, labels = _train_samples(model, task)
    with torch.no_grad():
        logits = model(images)
    if not torch.isfinite(logits).all():
        return np.full((task.n_attributed, task.n_test), np.nan), math.nan
    classes = logits.shape[1]
    differences = torch.from_numpy(scipy.linalg.helmert(classes)).to(images).T
    probabilities = logits.softmax(1)
    weights = _double_weights(problem.weights, images)
    mixing = _curvature_root(probabilities, differences) * (weights / n).sqrt()[:, None, None]
    # A training gradient is a mixture of logit gradients: J^T (p - y).
    errors = (probabilities - F.one_hot(labels, classes)) @ differences

    def logit_gradients(rows: slice) -> list[Block]:
        own = problem.module().double()
        return problem.method.logit_gradients(own, images[rows], differences)

    jacobian = joined(of_chunks(logit_gradients, n, problem.workers))
    half_mixed = _mix(gram(jacobian, jacobian), mixing)
    kernel = _mix(half_mixed.T, mixing)
    if not torch.isfinite(kernel).all():  # Parameters so large that gradients overflow.
        return np.full((task.n_attributed, task.n_test), np.nan), math.nan
    _warn_if_damping_decides(kernel, problem)
    kernel.diagonal().add_(damping)
    factor = torch.linalg.cholesky(kernel)
    chosen = task.rows.to(images.device)
    b_train = torch.einsum("rnk,nk->rn", half_mixed.reshape(len(kernel), n, -1), errors)[:, chosen]
    solved = torch.cholesky_solve(b_train, factor)
    residual = float((kernel @ solved - b_train).norm() / b_train.norm().clamp_min(1e-300))
    # The training gradient itself less what the kernel explains of it, as mixtures of rows of J.
    left = torch.diag_embed(errors.T).permute(1, 0, 2).reshape(len(kernel), n)[:, chosen]
    left -= _mix(solved, mixing.transpose(1, 2))

    # Where gradients are written out it is cheaper to mix them once than all their products.
    mixed = [
        Dense(left.T @ block.values) if isinstance(block, Dense) else block for block in jacobian
    ]

    def scores_of(rows: slice) -> Tensor:
        own = problem.module().double()
        test = problem.method.loss_gradients(own, task.test_x[rows], task.test_y[rows])
        return sum(
            gram([block], [other]) if isinstance(block, Dense) else left.T @ gram([block], [other])
            for block, other in zip(mixed, test, strict=True)
        )

    scores = torch.cat(of_chunks(scores_of, task.n_test, problem.workers), dim=1)
    scores *= (weights[chosen] / n)[:, None] / damping
    return scores.cpu().numpy(), residual


def _warn_if_damping_decides(kernel: Tensor, problem: Problem) -> None:
    """Warn where no curvature reaches the damping: influence is then all but Grad-Dot."""
    # The trace bounds the largest eigenvalue; only where it is small is that one worked out.
    if float(kernel.trace()) > len(kernel) * problem.damping:
        return
    largest = float(torch.linalg.eigvalsh(kernel)[-1])
    if largest < problem.damping:
        warnings.warn(
            f"influence: the largest curvature at {problem.where} is {largest:.2g}, below "
            f"damping={problem.damping:g}, which decides the scores: they are nearly those of "
            "Grad-Dot divided by damping times the number of training samples.",
            RuntimeWarning,
            stacklevel=2,
        )


def _ekfac(problem: Problem) -> tuple[np.ndarray, float]:
    """Solve with the Gauss-Newton matrix as `tda_utils.attribution.ekfac` approximates it."""
    task, method = problem.task, problem.method
    layers = ekfac.fit(
        problem.module,
        task.train_x,
        method,
        weights=problem.weights,
        seed=problem.sign_seed,
        workers=problem.workers,
    )

    def rotated(images: Tensor, labels: Tensor) -> list[Block]:
        model = problem.module()
        matrices = method.matrices(model, method.loss_gradients(model, images, labels))
        return [layer.rotated(own) for layer, own in zip(layers, matrices, strict=True)]

    def train_gradients(rows: slice) -> list[Block]:
        chosen = task.rows[rows]
        return rotated(task.train_x[chosen], task.train_y[chosen])

    train = joined(of_chunks(train_gradients, task.n_attributed, problem.workers))

    def products(rows: slice) -> Tensor:
        test = rotated(task.test_x[rows], task.test_y[rows])
        return gram(
            train,
            [layer.solved(own, problem.damping) for layer, own in zip(layers, test, strict=True)],
        )

    scores = torch.cat(of_chunks(products, task.n_test, problem.workers), dim=1)
    if problem.weights is not None:
        scores *= problem.weights[task.rows].to(scores)[:, None]
    return (scores / task.n_train).cpu().numpy(), math.nan


def _train_samples(model: nn.Module, task: Task) -> tuple[Tensor, Tensor]:
    images = like_parameters(model, task.train_x)
    return images, task.train_y.to(images.device)


def _double_weights(weights: Tensor | None, images: Tensor) -> Tensor:
    return images.new_ones(len(images)) if weights is None else weights.to(images)


def _curvature_root(probabilities: Tensor, differences: Tensor) -> Tensor:
    """Return R, (n, k, k), with ``R R^T`` the curvature ``diag(p) - p p^T`` in those directions."""
    curvature = torch.diag_embed(probabilities)
    curvature -= probabilities[:, :, None] * probabilities[:, None, :]
    values, vectors = torch.linalg.eigh(differences.T @ curvature @ differences)
    return vectors * values.clamp_min(0).sqrt()[:, None, :]


def _mix(rows: Tensor, mixing: Tensor) -> Tensor:
    """Replace each sample's k rows by ``mixing[n]^T`` times them."""
    n, k, _ = mixing.shape
    return torch.einsum("nkr,nkc->nrc", mixing, rows.reshape(n, k, -1)).reshape(n * k, -1)


def _hessian(problem: Problem) -> tuple[np.ndarray, float]:
    """Solve with the exact Hessian by conjugate gradients, where it is positive definite."""
    task, damping, n = problem.task, problem.damping, problem.task.n_train
    model = problem.module().double()
    images, labels = _train_samples(model, task)
    weights = _double_weights(problem.weights, images)

    def times(vector: np.ndarray) -> np.ndarray:
        direction = torch.from_numpy(vector).to(images.device)
        product = _hessian_product(model, images, labels, direction, weights)
        return product.cpu().numpy() + damping * vector

    parameters = list(trainable_parameters(model).values())
    size = sum(p.numel() for p in parameters)
    operator = sparse_linalg.LinearOperator((size, size), matvec=times, dtype=np.float64)
    # A fixed start keeps Lanczos repeatable.
    start = np.random.default_rng(0).standard_normal(size)
    smallest = sparse_linalg.eigsh(
        operator, k=1, which="SA", v0=start, tol=1e-3, return_eigenvectors=False
    )
    if smallest[0] <= 0:
        raise ValueError(
            f"influence with the Hessian is not defined at {problem.where}: its smallest "
            f"eigenvalue is {smallest[0] - damping:.3g}, so damping={damping:g} leaves it "
            f"indefinite; allowed are a damping above {damping - smallest[0]:.3g}, or solver='ggn'."
        )
    columns, worst = [], 0.0
    chosen = task.rows.to(images.device)
    for image, label in zip(images[chosen], labels[chosen], strict=True):
        loss = F.cross_entropy(model(image[None]), label[None])
        gradient = _flat(torch.autograd.grad(loss, parameters)).cpu().numpy()
        solved, _ = sparse_linalg.cg(operator, gradient, rtol=1e-10, maxiter=10 * len(start))
        length = max(np.linalg.norm(gradient), 1e-300)
        worst = max(worst, float(np.linalg.norm(times(solved) - gradient) / length))
        columns.append(torch.from_numpy(solved))
    solved = torch.stack(columns).to(images.device)
    scores = _dot_with(problem, model, solved, "test") * (weights[chosen] / n)[:, None]
    return scores.cpu().numpy(), worst


def _lissa(problem: Problem) -> tuple[np.ndarray, float]:
    """Run the released recursion, on the training or the test side, whichever has fewer samples.

    The released code repeats ``h <- v + (1 - damping) h - H_b h / scale`` over the batches b for
    each test gradient v. The result is linear in v, ``s = P v / scale``, and each step's matrix is
    symmetric, so ``grad(z_j) . P v = (P^T grad(z_j)) . v``, where P^T takes the batches in the
    opposite order: as many recursions as there are training samples instead of test samples.

    Only the last batches can be seen in the result. For the others H_b is left out, and what
    remains of their steps is the geometric series of ``1 - damping``.
    """
    task, damping = problem.task, problem.damping
    from_test = task.n_test < task.n_attributed
    samples = torch.arange(task.n_test) if from_test else task.rows
    own_x, own_y, _ = task.split("test" if from_test else "train")
    images, labels = _train_samples(problem.module(), task)
    batches = list(zip(images.split(LISSA_BATCH), labels.split(LISSA_BATCH), strict=True))
    seen = _steps_remembered(len(batches), damping)
    forgotten = sum((1 - damping) ** step for step in range(1, len(batches) - seen + 1))
    batches = batches[-seen:]

    def of_rows(rows: slice) -> Tensor:
        model, chosen = problem.module(), samples[rows]
        gradients = _loss_gradients(
            model, like_parameters(model, own_x[chosen]), own_y[chosen].to(images.device)
        )
        if from_test:
            estimates = gradients * (1 + forgotten)
            for batch in batches:
                _lissa_step(model, estimates, *batch, damping)
                estimates += gradients
            return estimates
        totals = gradients.clone()
        for batch in reversed(batches):
            _lissa_step(model, gradients, *batch, damping)
            totals += gradients
        return totals + forgotten * gradients

    # Each worker makes a graph of its own for every batch, which costs less than one idle core.
    vectors = torch.cat(of_chunks(of_rows, len(samples), problem.workers))
    scores = _dot_with(problem, problem.module(), vectors, "train" if from_test else "test")
    return (-(scores.T if from_test else scores) / LISSA_SCALE).cpu().numpy(), math.nan


def _lissa_step(
    model: nn.Module, vectors: Tensor, images: Tensor, labels: Tensor, damping: float
) -> None:
    """Replace each vector by ``(1 - damping) vector - H vector / scale``, H that of the batch."""
    parameters = list(trainable_parameters(model).values())
    # One graph of the gradient serves the products with all vectors.
    loss = F.cross_entropy(model(images), labels)
    gradient = _flat(torch.autograd.grad(loss, parameters, create_graph=True))
    for vector in vectors:
        product = _flat(torch.autograd.grad(gradient @ vector, parameters, retain_graph=True))
        vector.mul_(1 - damping).sub_(product, alpha=1 / LISSA_SCALE)


def _steps_remembered(batches: int, damping: float) -> int:
    """Return the number of last steps after which the others are forgotten."""
    if not 0 < damping < 1:
        return batches
    return min(batches, math.ceil(math.log(LISSA_FORGOTTEN) / math.log1p(-damping)))


def _loss_gradients(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Return the loss gradient of each sample, shape (n, parameters)."""
    parameters = list(trainable_parameters(model).values())
    return torch.stack(
        [
            _flat(torch.autograd.grad(F.cross_entropy(model(x[None]), y[None]), parameters))
            for x, y in zip(images, labels, strict=True)
        ]
    )


def _hessian_product(
    model: nn.Module, images: Tensor, labels: Tensor, vector: Tensor, weights: Tensor | None = None
) -> Tensor:
    """Return the Hessian of the mean (weighted) loss times a vector in parameter space."""
    parameters = list(trainable_parameters(model).values())
    losses = F.cross_entropy(model(images), labels, reduction="none")
    loss = losses.mean() if weights is None else (losses * weights).mean()
    gradient = _flat(torch.autograd.grad(loss, parameters, create_graph=True))
    return _flat(torch.autograd.grad(gradient @ vector, parameters))


def _flat(tensors) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])


def _dot_with(problem: Problem, model: nn.Module, vectors: Tensor, split: str) -> Tensor:
    """Return the inner product of each vector with each test or attributed training gradient."""
    task, named, start = problem.task, {}, 0
    for name, parameter in trainable_parameters(model).items():
        part = vectors[:, start : start + parameter.numel()]
        named[name] = part.reshape(len(vectors), *parameter.shape)
        start += parameter.numel()
    blocks = problem.method.vectors(model, named)
    images, labels, _ = task.split(split)
    samples = task.rows if split == "train" else torch.arange(task.n_test)

    def products(rows: slice) -> Tensor:
        own, chosen = problem.module().to(vectors.dtype), samples[rows]
        return gram(blocks, problem.method.loss_gradients(own, images[chosen], labels[chosen]))

    return torch.cat(of_chunks(products, len(samples), problem.workers), dim=1)
