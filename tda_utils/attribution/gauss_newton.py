"""Influence with the Gauss-Newton matrix, solved exactly in its dual form.

The rows of B are the logit gradients J, mixed by a root R of each sample's loss curvature, so that
``G = B^T B``. A training gradient is ``J^T (p - y) = B^T c`` with ``R c = p - y``, and::

    (B^T B + d I)^{-1} B^T c = B^T (B B^T + d I)^{-1} c

A common shift of all logits changes no cross-entropy, so of k logits only k - 1 differences are
needed. With a loss of a user's own, whose error e need not be ``R c``, J stands for B::

    (J^T C J + d I)^{-1} J^T e = J^T (C J J^T + d I)^{-1} e
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

from tda_utils.attribution import orthogonal
from tda_utils.attribution.blocks import (
    Block,
    Dense,
    combined,
    dense,
    gram,
    joined,
    squared_norms,
    width,
)
from tda_utils.attribution.gradients import of_chunks
from tda_utils.attribution.memory import OutOfMemory, free_memory, said_when_out_of_memory
from tda_utils.attribution.samples import Sample
from tda_utils.data.losses import flat
from tda_utils.data.task import Task

# With more of a score than that lost to rounding in ``B B^T``, B is written out and factorised.
ROUNDING = 1e-8
# With more than that lost it is said.
FEW_DIGITS = 1e-6
# Random combinations of all training gradients, on which the residual is measured.
COMBINATIONS = 2


def solve(sample: Sample, damping: float) -> tuple[np.ndarray, float]:
    """Return influence, (train, test), and the relative residual of the system in parameter space.

    Raises
    ------
    OutOfMemory
        If the kernel does not fit into memory.

    Warns
    -----
    RuntimeWarning
        If the damping decides the scores, or rounding leaves them less than six digits.
    """
    with said_when_out_of_memory(_too_large(sample.task.n_train)):
        return _solve(sample, damping)


def _solve(sample: Sample, damping: float) -> tuple[np.ndarray, float]:
    task, n = sample.task, sample.task.n_train
    model = sample.module(torch.float64)
    images, labels = sample.training_data(model)
    with torch.no_grad():
        outputs = model(images).detach()  # Scripted models record even so.
    logits, shift_free = flat(outputs), task.objective.shift_free
    undefined = np.full((task.n_attributed, task.n_test), np.nan), math.nan
    # A logit of minus infinity rules a class out.
    if not torch.isfinite(logits.softmax(1) if shift_free else logits).all():
        return undefined
    if shift_free and logits.shape[1] == 1:  # One class has no loss.
        return np.zeros_like(undefined[0]), 0.0
    _check_memory(0, n, logits.shape[1], logits.device)
    differences = _differences(logits, shift_free)
    # The factor on a loss, weight / n, is half in B and half in c.
    halves = (sample.weights_like(logits) / n).sqrt()
    root, in_root = task.objective.root(outputs, labels)
    mixing = differences.T @ root * halves[:, None, None]

    def logit_gradients(rows: slice) -> list[Block]:
        own = sample.module(torch.float64)
        return sample.gradients.logit_gradients(own, images[rows], differences)

    one = sum(part.nbytes for block in logit_gradients(slice(1)) for part in block[:2])
    _check_memory(one, n, logits.shape[1], logits.device)
    jacobian = joined(of_chunks(logit_gradients, n, sample.workers))
    if in_root is None:
        errors = task.objective.errors(outputs, labels) * halves[:, None] ** 2
        return _solved_by_outputs(System(sample, damping, jacobian, mixing, _columns(errors, task)))
    kernel = _mix(_mix(gram(jacobian, jacobian), mixing).T, mixing)
    if not torch.isfinite(kernel).all():  # Parameters so large that gradients overflow.
        return undefined
    _warn_if_damping_decides(kernel, damping, sample.where)
    right = _columns(in_root * halves[:, None], task)
    system = System(sample, damping, jacobian, mixing, right)
    kernel.diagonal().add_(damping)
    solved, rounding = solved_by_cholesky(kernel, right)
    del kernel
    if rounding > ROUNDING and system.can_be_written_out():
        return system.solved_written_out()
    if solved is None:
        raise ValueError(
            f"influence is not to be had at {sample.where}: beside its curvature damping="
            f"{damping:g} leaves no digit in float64, and memory does not allow to write gradients "
            "out, which would keep some; allowed are a larger damping, or solver='ekfac'."
        )
    system.warn_if_few_digits(rounding)
    return system.solved_by_kernel(solved)


def _differences(logits: Tensor, shift_free: bool) -> Tensor:
    """Return the columns by which outputs are mixed: differences of them, or each by itself."""
    k = logits.shape[1]
    return (
        torch.from_numpy(scipy.linalg.helmert(k)).to(logits).T
        if shift_free
        else torch.eye(k).to(logits)
    )


def _columns(values: Tensor, task: Task) -> Tensor:
    """Return values of each sample, (n, r), as columns (n * r, n_attributed), zero elsewhere."""
    n, rows = values.shape
    columns = torch.diag_embed(values.T).permute(2, 0, 1)
    return columns.reshape(n * rows, n)[:, task.rows.to(values.device)]


def _solved_by_outputs(system: System) -> tuple[np.ndarray, float]:
    """Solve for a loss of a user's own, given the errors as the right sides in the rows of J."""
    kernel, damping = gram(system.jacobian, system.jacobian), system.damping
    # ``C K``: mixed by the root and back.
    n, k, _ = system.mixing.shape
    curved = torch.einsum("nkr,nlr->nkl", system.mixing, system.mixing)
    matrix = torch.einsum("nkl,nlc->nkc", curved, kernel.view(n, k, -1)).reshape(n * k, -1)
    if not torch.isfinite(matrix).all():
        return np.full((system.right.shape[1], system.sample.task.n_test), np.nan), math.nan
    _warn_if_damping_decides(
        _mix(_mix(kernel, system.mixing).T, system.mixing), damping, system.sample.where
    )
    matrix.diagonal().add_(damping)
    solved = torch.linalg.solve(matrix, system.right)
    scores = system.scores_of(solved)
    signs = system.signs
    right, left = (combined(system.jacobian, values @ signs) for values in (system.right, solved))
    rest = _mix(gram(system.jacobian, left), system.mixing)
    bent = combined(system.jacobian, _mix(rest, system.mixing.transpose(1, 2)))
    missing = [
        Dense(a.values - b.values - damping * c.values)
        for a, b, c in zip(right, bent, left, strict=True)
    ]
    return scores, _relative(missing, right)


@dataclass(frozen=True, eq=False)
class System:
    """``(B^T B + d I) x = B^T c``, for one c a training sample that gets scores.

    Parameters
    ----------
    sample : Sample
    damping : float
        d.
    jacobian : list of Block
        The gradients J of logit differences, k - 1 rows a sample.
    mixing : Tensor, shape (n, k - 1, k - 1)
        Each sample's rows of B are its transpose times those of J.
    right : Tensor, shape (n * (k - 1), n_attributed)
        The columns c.
    """

    sample: Sample
    damping: float
    jacobian: list[Block]
    mixing: Tensor
    right: Tensor

    def solved_by_kernel(self, solved: Tensor) -> tuple[np.ndarray, float]:
        """Return scores and residual, given the solution in the rows of B."""
        left = _mix(solved, self.mixing.transpose(1, 2))
        return self.scores_of(left), self.residual(combined(self.jacobian, left @ self.signs))

    def scores_of(self, left: Tensor) -> np.ndarray:
        """Return scores, given the solution in the rows of J."""
        # Where gradients are written out it is cheaper to mix them once than all their products.
        mixed = [
            Dense(left.T @ block.values) if isinstance(block, Dense) else block
            for block in self.jacobian
        ]

        def products(rows: slice) -> Tensor:
            test = self.sample.loss_gradients("test", rows, torch.float64)
            return sum(
                gram([one], [other]) if isinstance(one, Dense) else left.T @ gram([one], [other])
                for one, other in zip(mixed, test, strict=True)
            )

        return torch.cat(self.sample.in_chunks("test", products), dim=1).cpu().numpy()

    def can_be_written_out(self) -> bool:
        """Return whether memory allows it."""
        free = free_memory(self.right.device)
        return free is None or orthogonal.memory(len(self.right), sum(self._sizes)) < free

    def solved_written_out(self) -> tuple[np.ndarray, float]:
        """Return scores and residual by a factorisation of B; warn if they lose digits even so.

        How many is seen by solving again with another last digit of each number in B.
        """
        rows = torch.cat([_mix(dense(block), self.mixing) for block in self.jacobian], dim=1)
        basis, factors = orthogonal.solve(rows, self.right, self.damping)
        scores = factors.T @ self._test_products(basis)
        rows *= 1 + torch.finfo(rows.dtype).eps * _signs(rows.shape).to(rows)
        basis_again, factors_again = orthogonal.solve(rows, self.right, self.damping)
        again = factors_again.T @ self._test_products(basis_again)
        sizes = scores.abs().amax(0)
        changes = ((again - scores).abs().amax(0) / sizes)[sizes > 0]
        self.warn_if_few_digits(float(changes.max()) if len(changes) else 0.0)
        x = (basis @ (factors @ self.signs)).T
        return scores.cpu().numpy(), self.residual(self._as_blocks(x))

    def residual(self, x: list[Dense]) -> float:
        """Return the largest relative residual, given x of a few combinations of the samples."""
        right = self.right @ self.signs
        rest = right - _mix(gram(self.jacobian, x), self.mixing)
        mixed = _mix(torch.cat([right, rest], dim=1), self.mixing.transpose(1, 2))
        both = [part.values.split(COMBINATIONS) for part in combined(self.jacobian, mixed)]
        wanted = [Dense(own) for own, _ in both]
        missing = [
            Dense(part - self.damping * own.values) for (_, part), own in zip(both, x, strict=True)
        ]
        return _relative(missing, wanted)

    def warn_if_few_digits(self, rounding: float) -> None:
        """Warn where more than `FEW_DIGITS` of a score is rounding."""
        if rounding <= FEW_DIGITS:
            return
        digits = max(math.floor(-math.log10(rounding)), 0)
        warnings.warn(
            f"influence: about {digits} digits of the scores at {self.sample.where} are left: "
            f"curvature and damping={self.damping:g} are too far apart for float64. A larger "
            "damping, or features of one scale, keep more.",
            RuntimeWarning,
            stacklevel=2,
        )

    @property
    def signs(self) -> Tensor:
        """Random signs, (n_attributed, `COMBINATIONS`), by which training samples are combined."""
        return _signs((self.right.shape[1], COMBINATIONS)).to(self.right)

    @property
    def _sizes(self) -> list[int]:
        return [width(block) for block in self.jacobian]

    def _as_blocks(self, rows: Tensor) -> list[Dense]:
        return [Dense(part) for part in rows.split(self._sizes, dim=1)]

    def _test_products(self, basis: Tensor) -> Tensor:
        """Return the inner products, (r, test), of vectors (parameters, r) with test gradients."""
        vectors = self._as_blocks(basis.T)

        def products(rows: slice) -> Tensor:
            return gram(vectors, self.sample.loss_gradients("test", rows, torch.float64))

        return torch.cat(self.sample.in_chunks("test", products), dim=1)


def solved_by_cholesky(kernel: Tensor, right: Tensor) -> tuple[Tensor | None, float]:
    """Solve with a symmetric matrix; None where it is not positive definite to rounding.

    Beside it the share of the solution that rounding in the matrix may have changed. Rows of very
    different sizes are no matter: the diagonal is brought to one first.

    Examples
    --------
    >>> kernel = torch.diag(torch.tensor([1.0, 1e-30])).double()
    >>> solved, rounding = solved_by_cholesky(kernel, kernel)
    >>> torch.allclose(solved, torch.eye(2).double()), rounding < 1e-15
    (True, True)
    """
    scales = kernel.diagonal().rsqrt()[:, None]
    kernel = kernel * scales * scales.T
    factor, failed = torch.linalg.cholesky_ex(kernel)
    if int(failed):
        return None, math.inf
    norm = float(torch.linalg.matrix_norm(kernel, 1))
    # The upper factor, in the order of memory that LAPACK takes as it is.
    share, _ = scipy.linalg.lapack.dpocon(factor.cpu().numpy().T, norm)
    rounding = torch.finfo(kernel.dtype).eps / share if share > 0 else math.inf
    return scales * torch.cholesky_solve(scales * right, factor), rounding


def _check_memory(one: int, n: int, logits: int, device: torch.device) -> None:
    """Raise `OutOfMemory` if kernel and gradients cannot fit, given the bytes of one sample's."""
    free, kernel = free_memory(device), 8 * (n * (logits - 1)) ** 2
    # Products of gradients become the kernel in copies, and curvatures their roots; gradients are
    # joined from their parts.
    needed = 4 * (kernel + 8 * n * logits**2) + 2 * n * one
    if free is not None and needed > free:
        said = f", about {needed / 1e9:,.1f} GB where {free / 1e9:,.1f} GB are free"
        raise OutOfMemory(_too_large(n, said))


def _too_large(n: int, said: str = "") -> str:
    return (
        f"solver is 'ggn', whose matrix for {n} training samples does not fit into memory{said}; "
        "allowed are solver='ekfac', whose memory does not grow with it, or fewer samples."
    )


def _relative(missing: list[Dense], wanted: list[Dense]) -> float:
    """Return the largest of the lengths of what is missing, relative to what is wanted."""
    lengths = squared_norms(wanted).sqrt()
    lengths = lengths.clamp_min(torch.finfo(lengths.dtype).tiny)
    return float((squared_norms(missing).sqrt() / lengths).max())


def _signs(shape: tuple[int, ...]) -> Tensor:
    """Return random signs, the same each time."""
    return torch.from_numpy(2.0 * np.random.default_rng(0).integers(0, 2, shape) - 1)


def _warn_if_damping_decides(kernel: Tensor, damping: float, where: str) -> None:
    """Warn where no curvature reaches the damping: influence is then all but Grad-Dot."""
    # The trace bounds the largest eigenvalue; only where it is small is that one worked out.
    if float(kernel.trace()) > len(kernel) * damping:
        return
    largest = float(torch.linalg.eigvalsh(kernel)[-1])
    if largest < damping:
        warnings.warn(
            f"influence: the largest curvature at {where} is {largest:.2g}, below "
            f"damping={damping:g}, which decides the scores: they are nearly those of "
            "Grad-Dot divided by damping times the number of training samples.",
            RuntimeWarning,
            stacklevel=2,
        )


def _mix(rows: Tensor, mixing: Tensor) -> Tensor:
    """Replace each sample's k rows by ``mixing[n]^T`` times them."""
    n, k, _ = mixing.shape
    return torch.einsum("nkr,nkc->nrc", mixing, rows.reshape(n, k, -1)).reshape(n * k, -1)
