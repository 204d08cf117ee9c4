"""Damped least squares by orthogonal factorisation, which keeps twice the digits of a kernel.

With the rows of B known, ``x = (B^T B + d I)^{-1} B^T c`` needs neither ``B^T B`` nor ``B B^T``. In
these products a curvature of 1e14 beside a damping of 1e-3 leaves no digit of float64; a QR
factorisation of B with a root of the damping under it sees the square roots of both.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def solve(rows: Tensor, right: Tensor, damping: float) -> tuple[Tensor, Tensor]:
    """Solve ``(B^T B + d I) x = B^T c`` for each column c.

    Parameters
    ----------
    rows : Tensor, shape (m, parameters)
        B.
    right : Tensor, shape (m, n)
        The columns c.
    damping : float
        d, positive.

    Returns
    -------
    Tensor, shape (parameters, r), and Tensor, shape (r, n)
        Two factors whose product is the x of each column; r is m or the number of parameters,
        whichever is smaller.

    Notes
    -----
    With at least as many rows as parameters the problem is one of least squares, whose columns can
    be brought to one scale. With fewer, x is the shortest solution of ``B x + sqrt(d) z = c``, and
    the factorisation is of the transpose. Its rows are taken in the order of their size, with which
    one large parameter takes no digits from the others (Cox and Higham, 1998).

    Examples
    --------
    >>> B, c = torch.tensor([[1.0, 1e6]]).double(), torch.tensor([[1.0]]).double()
    >>> basis, factors = solve(B, c, damping=1.0)
    >>> (basis @ factors).flatten()
    tensor([1.0000e-12, 1.0000e-06], dtype=torch.float64)
    """
    m, parameters = rows.shape
    root = math.sqrt(damping)
    if m >= parameters:
        stacked = torch.cat([rows, root * torch.eye(parameters).to(rows)])
        scales = stacked.norm(dim=0)
        q, r = torch.linalg.qr(stacked / scales)
        inverse = torch.linalg.solve_triangular(r, torch.eye(parameters).to(rows), upper=True)
        return inverse / scales[:, None], q[:m].T @ right
    stacked = torch.cat([rows.T, root * torch.eye(m).to(rows)])
    order = torch.linalg.vector_norm(stacked, math.inf, dim=1).argsort(descending=True)
    q, r = torch.linalg.qr(stacked[order])
    basis = torch.empty_like(q).index_copy_(0, order, q)[:parameters]
    return basis, torch.linalg.solve_triangular(r.T, right, upper=False)


def memory(m: int, parameters: int) -> int:
    """Return about how many bytes `solve` holds at the same time, those of its input included."""
    return 8 * 4 * (m + parameters) * min(m, parameters)
