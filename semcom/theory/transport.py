"""Exact optimal transport costs between laws on finite alphabets."""

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import linprog
from scipy.sparse import csr_array, eye_array, hstack, kron, vstack
from torch import Tensor

from semcom.errors import NotConverged

ROUNDING = 1e-12  # rounding error allowed, as a share of the largest cost
EXACT = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}


def monge(cost: Float[Tensor, "m n"]) -> bool:
    """Whether a cost matrix is Monge: c_ij + c_i'j' <= c_ij' + c_i'j for i < i', j < j'.

    Convex functions of differences on a line are such costs.

    Args:
        cost: Cost c, [m, n].

    Returns:
        True if the inequality holds, up to rounding.

    Reference:
        Hoffman, On simple linear programming problems, Proc. Symp. Pure Math. 7, 1963.
    """
    mixed = cost[:-1, :-1] + cost[1:, 1:] - cost[:-1, 1:] - cost[1:, :-1]
    return not mixed.numel() or bool(mixed.max() <= ROUNDING * cost.abs().max())


def monotone_transport(
    source: Float[Tensor, " m"], laws: Float[Tensor, "points n"], cost: Float[Tensor, "m n"]
) -> Float[Tensor, " points"]:
    """Cost of the monotone coupling, which is optimal if the cost is Monge.

    Args:
        source: Law p, [m].
        laws: Laws r, one per point, [points, n].
        cost: Cost c, [m, n].

    Returns:
        Cost of each point, [points].
    """
    p, r = source.cumsum(0).expand(len(laws), -1).contiguous(), laws.cumsum(1).contiguous()
    cuts = torch.cat([p, r], 1).sort(1).values
    mass = cuts.diff(dim=1, prepend=torch.zeros_like(cuts[:, :1]))
    middle = cuts - mass / 2
    i = torch.searchsorted(p, middle).clamp(max=cost.shape[0] - 1)
    j = torch.searchsorted(r, middle).clamp(max=cost.shape[1] - 1)
    return (mass * cost[i, j]).sum(1)


def least_transport(
    source: Float[Tensor, " m"], law: Float[Tensor, " n"], cost: Float[Tensor, "m n"]
) -> Float[Tensor, ""]:
    """Optimal transport cost between p and r, by a linear program.

    Args:
        source: Law p, [m].
        law: Law r, [n].
        cost: Cost c, [m, n].

    Returns:
        The least cost, a scalar.

    Raises:
        NotConverged: The linear program was not solved.
    """
    p, r, c = (values.detach().cpu().numpy() for values in (source, law, cost))
    rows, columns = p > 0, r > 0
    p, r = p[rows] / p[rows].sum(), r[columns] / r[columns].sum()
    m, n = len(p), len(r)
    sums = vstack(_row_and_column_sums(m, n)).tocsr()[:-1]
    found = linprog(c[np.ix_(rows, columns)].ravel(), A_eq=sums, b_eq=np.concatenate([p, r])[:-1])
    if found.status != 0:
        raise NotConverged(f"transport of {m} to {n} letters: {found.message}")
    return torch.as_tensor(found.fun, dtype=source.dtype, device=source.device)


def least_distortion_coupling(
    source: Float[Tensor, " m"], distortion: Float[Tensor, "m n"], cost: Float[Tensor, "m n"], bound: float
) -> Float[Tensor, "m n"]:
    """Coupling w of p and a free law r with least <w, d>, where moving p to r costs at most P.

    A linear program in w and in a plan Pi of equal marginals with <Pi, c> <= P.

    Args:
        source: Law p, [m].
        distortion: Distortion d, [m, n].
        cost: Transport cost c, [m, n].
        bound: P, at least the least possible cost.

    Returns:
        The coupling w, [m, n].

    Raises:
        NotConverged: The linear program was not solved.
    """
    p, d, c = (values.detach().cpu().numpy() for values in (source, distortion, cost))
    m, n = d.shape
    rows, columns = _row_and_column_sums(m, n)
    none = csr_array(rows.shape)
    alike = vstack([hstack([rows, none]), hstack([none, rows]), hstack([columns, -columns])])
    limit = hstack([csr_array((1, m * n)), csr_array(c.reshape(1, -1))])
    objective = np.concatenate([d.ravel(), np.zeros(m * n)])
    right = np.concatenate([p, p, np.zeros(n)])
    found = linprog(objective, A_ub=limit, b_ub=[bound], A_eq=alike, b_eq=right, options=EXACT)
    if found.status != 0:
        raise NotConverged(f"least distortion of {m} to {n} letters: {found.message}")
    w = np.maximum(found.x[: m * n].reshape(m, n), 0)
    return torch.as_tensor(w * (p / w.sum(1))[:, None], dtype=source.dtype, device=source.device)


def _row_and_column_sums(m: int, n: int) -> tuple[csr_array, csr_array]:
    """Sparse matrices that take row sums and column sums of a matrix [m, n] stored by rows."""
    rows, columns = kron(eye_array(m), np.ones((1, n))), kron(np.ones((1, m)), eye_array(n))
    return rows.tocsr(), columns.tocsr()
