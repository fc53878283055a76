"""Exact costs of optimal transport between two laws on finite alphabets."""

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import linprog
from scipy.sparse import eye_array, kron, vstack
from torch import Tensor

from semcom.errors import NotConverged

ROUNDING = 1e-12  # of the largest cost


def monge(cost: Float[Tensor, "m n"]) -> bool:
    """Whether no exchange helps: c_ij + c_i'j' <= c_ij' + c_i'j for i < i', j < j'.

    Convex functions of differences on a line are such costs.

    Reference:
        Hoffman, On simple linear programming problems, Proc. Symp. Pure Math. 7, 1963.
    """
    mixed = cost[:-1, :-1] + cost[1:, 1:] - cost[:-1, 1:] - cost[1:, :-1]
    return not mixed.numel() or bool(mixed.max() <= ROUNDING * cost.abs().max())


def monotone_transport(
    source: Float[Tensor, " m"], laws: Float[Tensor, "points n"], cost: Float[Tensor, "m n"]
) -> Float[Tensor, " points"]:
    """Cost of moving mass in order, quantile to quantile, which is least where the cost is Monge.

    Args:
        source: p.
        laws: r of each point.
        cost: c.
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
    """Least cost of moving p to r, by a linear program.

    Raises:
        NotConverged: The program was not solved.
    """
    p, r, c = (values.detach().cpu().numpy() for values in (source, law, cost))
    rows, columns = p > 0, r > 0
    p, r = p[rows] / p[rows].sum(), r[columns] / r[columns].sum()
    m, n = len(p), len(r)
    sums = vstack([kron(eye_array(m), np.ones((1, n))), kron(np.ones((1, m)), eye_array(n))]).tocsr()[:-1]
    found = linprog(c[np.ix_(rows, columns)].ravel(), A_eq=sums, b_eq=np.concatenate([p, r])[:-1])
    if found.status != 0:
        raise NotConverged(f"transport of {m} to {n} letters: {found.message}")
    return torch.as_tensor(found.fun, dtype=source.dtype, device=source.device)
