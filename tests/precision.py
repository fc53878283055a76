"""How far apart two right computations of the same number may be."""

import torch

CONFIDENCE = (
    6.0  # with 1e6 values compared, all are within it but for a chance of 2 exp(-18) 1e6 = 3 per cent
)


def rounding(dtype: torch.dtype, operations: float, magnitude: float = 1.0) -> float:
    """Largest difference that rounding leaves between two orders of the same sum or chain of products.

        CONFIDENCE sqrt(2 operations) u magnitude

    u is half of the machine epsilon. Each operation of either side rounds by at most u, relative; errors of
    mean 0 that do not depend on each other grow with the root of their number.

    Args:
        dtype: The less precise of the two sides.
        operations: Roundings in a row behind one value: terms of a sum, steps of a loop.
        magnitude: Of the largest intermediate result, times the condition number of what is done with it.

    Reference:
        Higham and Mary, A new approach to probabilistic rounding error analysis, SIAM J. Sci. Comput. 41(5),
        2019, theorem 2.4.
    """
    return CONFIDENCE * (2 * operations) ** 0.5 * torch.finfo(dtype).eps / 2 * magnitude
