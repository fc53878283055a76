"""The least distortion of reversible data hiding at a given rate, with or without a bound on perception.

Host symbols are independent, of law p. A reversible scheme with test channel w(y|x) hides
H(Y|X) - H(X|Y) = H(r) - H(p) nats per symbol, r being the law of the stego symbols (Kalker and
Willems, Capacity bounds and constructions for reversible data-hiding, DSP 2002). So the best scheme solves

    min sum_ij p_i w_ij d_ij   subject to   H(r) >= H(p) + L,   perception(p, r) <= P,   r = p w,

a convex problem: of all w with one r the cheapest is an optimal transport plan of p to r.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy.optimize import brentq, linprog
from scipy.special import softmax, xlogy

from semcom.errors import Infeasible, InvalidOption, NotConverged

Law = Float[np.ndarray, " symbols"]
Cost = Float[np.ndarray, "symbols symbols"]

MOST_BOUNDS = 500
SLACK = 1e-6  # nats, and perception; the linear solver keeps its bounds to 1e-7
ROUNDING = 1e-12  # nats
TINY = 1e-300


@dataclass(frozen=True, eq=False)
class Transport:
    """Perception measured by optimal transport: the least cost of moving p to r.

    sum_ij Pi_ij c_ij, minimised over all couplings Pi of p and r. With c_ij = |i - j| it is the Wasserstein-1
    distance, with (i - j)^2 the squared Wasserstein-2 distance, and with 1{i != j} the total variation, half
    of the sum of |p - r|.

    Args:
        cost: Cost c, [symbols, symbols], not negative, zeros on the diagonal.
    """

    cost: Cost

    @classmethod
    def total_variation(cls, symbols: int) -> "Transport":
        """Transport cost that equals the total variation between laws on an alphabet.

        Args:
            symbols: Size of the alphabet.

        Returns:
            The measure with c_ij = 1{i != j}.
        """
        return cls(1.0 - np.eye(symbols))

    def __call__(self, p: Law, r: Law) -> float:
        """Least transport cost between the laws p and r, each [symbols] with sum 1."""
        return transport_cost(p, r, self.cost)


@dataclass(frozen=True)
class Divergence:
    """Perception as KL(r || p) = sum_j r_j log(r_j / p_j) in nats, r the stego law and p the host law."""

    def __call__(self, p: Law, r: Law) -> float:
        """KL(r || p) in nats of laws [symbols]; infinite where r is positive and p is 0."""
        with np.errstate(divide="ignore"):
            return max(float((xlogy(r, r) - xlogy(r, p)).sum()), 0.0)


Perception = Transport | Divergence


@dataclass(frozen=True, eq=False)
class HidingChannel:
    """Test channel of a reversible data hiding scheme, with its rate, distortion and perception.

    Args:
        host: Law p of the host symbols, [symbols].
        stego: Law r of the stego symbols, [symbols].
        coupling: Joint law p_i w_ij, [symbols, symbols], with row sums p and column sums r.
        distortion: Expected distortion sum_ij p_i w_ij d_ij.
        rate_nats: Hidden information H(r) - H(p) in nats per symbol.
        perception: Perception measure of p and r; 0 if none was given.
    """

    host: Law
    stego: Law
    coupling: Cost
    distortion: float
    rate_nats: float
    perception: float

    @property
    def forward(self) -> Cost:
        """Channel w(y|x), one row per host symbol x; host symbols that never occur stay unchanged."""
        return _rows(self.coupling, self.host)

    @property
    def backward(self) -> Cost:
        """Posterior v(x|y), one row per stego symbol y."""
        return _rows(self.coupling.T, self.stego)


def entropy_nats(law: ArrayLike) -> float:
    """Entropy of a law in nats, H = - sum p log p.

    Args:
        law: Probabilities with sum 1.

    Returns:
        Entropy >= 0 in nats.

    Example:
        >>> round(entropy_nats([0.5, 0.25, 0.25]) / np.log(2), 6)
        1.5
    """
    p = np.asarray(law, dtype=float)
    return float(-xlogy(p, p).sum())


def transport_plan(p: Law, r: Law, cost: Cost) -> Cost:
    """Optimal transport plan between two laws, by a linear program.

    Args:
        p: First law, [symbols], sum 1.
        r: Second law, [symbols], sum 1.
        cost: Cost c, [symbols, symbols].

    Returns:
        The coupling of p and r with the least cost, [symbols, symbols].

    Raises:
        InvalidOption: The sums of the laws differ.
    """
    n, m = cost.shape
    sums = np.vstack([np.kron(np.eye(n), np.ones(m)), np.kron(np.ones(n), np.eye(m))])
    found = linprog(cost.ravel(), A_eq=sums[:-1], b_eq=np.concatenate([p, r])[:-1], method="highs")
    if found.x is None:
        raise InvalidOption(
            f"no plan from a law of sum {p.sum():g} to one of sum {r.sum():g}: both must be 1"
        )
    return found.x.reshape(n, m).clip(0)


def transport_cost(p: Law, r: Law, cost: Cost) -> float:
    """Optimal transport cost between two laws: the least sum_ij Pi_ij c_ij over all couplings Pi.

    Args:
        p: First law, [symbols], sum 1.
        r: Second law, [symbols], sum 1.
        cost: Cost c, [symbols, symbols].

    Returns:
        The least cost.
    """
    return float((transport_plan(p, r, cost) * cost).sum())


def optimal_channel(
    host: ArrayLike,
    distortion: ArrayLike,
    rate_nats: float,
    perception: Perception | None = None,
    most_perception: float = np.inf,
) -> HidingChannel:
    """Test channel of least distortion that hides `rate_nats` per symbol within a bound on perception.

    A linear program in the plans, except for the entropy constraint, which is replaced by

        - sum_j r_j log s_j >= H(p) + L   for every law s of that entropy

    (Gibbs' inequality), and KL(r || p) <= P by sum_j r_j log(s_j / p_j) <= P for every s at that divergence.
    Such constraints are added where the solution violates them, at the point s where the line from the
    solution to the uniform law (to p) meets the bound, until no violation exceeds 1e-6 nats.

    Args:
        host: Law p of the host symbols, positive, sum 1.
        distortion: d_ij from host symbol i to stego symbol j, not negative, zeros on the diagonal.
        rate_nats: Hidden information L in nats per symbol, not negative.
        perception: Perception measure of p and r; None for no bound.
        most_perception: Bound P on the perception, not negative; inf for no bound.

    Returns:
        The optimal test channel.

    Raises:
        InvalidOption: An argument is outside its range.
        Infeasible: No law on this alphabet has the required entropy, or none within the bound.
        NotConverged: A constraint is still violated after 500 linear programs.

    Reference:
        Zhang, Hu, Li and Yu, Recursive histogram modification: establishing equivalency between reversible
        data hiding and lossless data compression, IEEE Trans. Image Processing 22(7), 2013. Supporting
        hyperplanes: Veinott, Operations Research 15(1), 1967.

    Example:
        >>> binary = optimal_channel([0.9, 0.1], 1 - np.eye(2), 0.1)
        >>> round(binary.distortion, 4)
        0.0514
    """
    p, d = _checked(host, distortion, rate_nats)
    if not most_perception >= 0:
        raise InvalidOption(f"perception of at most {most_perception:g}: it is never negative")
    if perception is None and np.isfinite(most_perception):
        raise InvalidOption(
            f"perception of at most {most_perception:g}, but of no kind: say how it is measured"
        )
    bounded = None if np.isinf(most_perception) else perception
    if bounded is not None:
        least = least_perception(p, rate_nats, bounded)
        if least > most_perception + SLACK:
            raise Infeasible(
                f"perception of at most {most_perception:g} with {rate_nats:g} nats per symbol: the least is "
                f"{least:.6g}; allow more, or hide less"
            )
    plan = _least_plan(p, d, rate_nats, bounded, most_perception)
    r = plan.sum(0)
    return HidingChannel(
        host=p,
        stego=r,
        coupling=plan,
        distortion=float((plan * d).sum()),
        rate_nats=entropy_nats(r) - entropy_nats(p),
        perception=0.0 if perception is None else perception(p, r),
    )


def least_perception(host: ArrayLike, rate_nats: float, perception: Perception) -> float:
    """Least perception(p, r) over all stego laws r with H(r) >= H(p) + L.

    For KL(r || p) the minimum lies on r_j ~ p_j^t, 0 <= t <= 1.

    Args:
        host: Law p of the host symbols, positive, sum 1.
        rate_nats: Hidden information L in nats per symbol, not negative.
        perception: Perception measure of p and r.

    Returns:
        The least value of the measure.

    Raises:
        InvalidOption: An argument is outside its range.
        Infeasible: No law on this alphabet has the required entropy.
    """
    if isinstance(perception, Transport):
        p, cost = _checked(host, perception.cost, rate_nats)
        return float((_least_plan(p, cost, rate_nats, None, np.inf) * cost).sum())
    p, _ = _checked(host, 1 - np.eye(np.asarray(host).size), rate_nats)

    def lack(t) -> float:
        return entropy_nats(softmax(t * np.log(p))) - entropy_nats(p) - rate_nats

    found = 1.0 if rate_nats == 0 or lack(1) >= 0 else 0.0 if lack(0) <= 0 else _root(lack)
    return perception(p, softmax(found * np.log(p)))


def _least_plan(p: Law, d: Cost, rate_nats: float, perception: Perception | None, most: float) -> Cost:
    n = len(p)
    # Supporting planes at the uniform law and at p exclude nothing: keep a distance below the slack.
    entropy = min(entropy_nats(p) + rate_nats, np.log(n) - SLACK / 2)
    most_kl = max(most, SLACK / 2)
    to_r = np.kron(np.ones(n), np.eye(n))
    sums, levels, costs = np.kron(np.eye(n), np.ones(n)), p, d.ravel()
    rows: list[np.ndarray] = []  # of bounds  row . x <= bound
    bounds: list[float] = []
    if isinstance(perception, Transport):  # a second plan, of the same r
        none = np.zeros_like(sums)
        sums = np.block([[sums, none], [none, sums], [to_r, -to_r]])
        levels = np.concatenate([p, p, np.zeros(n)])
        rows.append(np.concatenate([0 * costs, perception.cost.ravel()]))
        bounds.append(most)
        costs = np.concatenate([costs, 0 * costs])
    rest = np.zeros(len(costs) - n * n)
    uniform = np.full(n, 1 / n)
    for _ in range(MOST_BOUNDS):
        found = linprog(costs, np.array(rows) if rows else None, bounds or None, sums, levels, method="highs")
        if found.x is None:  # at the least perception, by rounding
            raise Infeasible(
                f"perception of at most {most:g} with {rate_nats:g} nats per symbol: just out of reach; "
                "allow more, or hide less"
            )
        plan = found.x[: n * n].reshape(n, n).clip(0)
        r = plan.sum(0)
        short = entropy - entropy_nats(r) > SLACK
        far = isinstance(perception, Divergence) and perception(p, r) - most_kl > SLACK
        if short:
            s = _where(lambda s: entropy_nats(s) - entropy, r, uniform)
            rows.append(np.concatenate([np.log(np.maximum(s, TINY)) @ to_r, rest]))
            bounds.append(-entropy)
        if far and isinstance(perception, Divergence):
            s = _where(lambda s: most_kl - perception(p, s), r, p)
            rows.append(np.concatenate([np.log(np.maximum(s, TINY) / p) @ to_r, rest]))
            bounds.append(most_kl)
        if not (short or far):
            return plan
    raise NotConverged(
        f"{rate_nats:g} nats per symbol within a perception of {most:g}: bounds still broken by more than "
        f"{SLACK:g} after {MOST_BOUNDS} linear programs; hide less, or allow more"
    )


def _where(excess, outside: Law, inside: Law) -> Law:
    """Law on the line between two laws at which a function that changes sign is 0."""
    if excess(inside) <= 0:
        return inside
    t = _root(lambda t: excess((1 - t) * outside + t * inside))
    return (1 - t) * outside + t * inside


def _root(rising_or_falling) -> float:
    """Root of a monotone function in 0..1."""
    return float(brentq(rising_or_falling, 0.0, 1.0, xtol=1e-15))  # pyright: ignore[reportArgumentType]


@dataclass(frozen=True, eq=False)
class HistogramPrice:
    """Price of changing a histogram, gamma sum_j (R_j log(R_j / P_j) - R_j + P_j).

    R_j = B_j + sum_k n_k r_kj counts the symbols of all laws together: what one law adds to a value, another
    may take from it. If sum R = sum P = N, the price is gamma N KL(R || P).

    Args:
        weight: gamma in units of distortion per nat, not negative.
        occurrences: n_k, number of symbols of each law, not negative.
        rest: B_j, counts of symbols that no law changes, not negative.
        target: P_j, wanted counts, positive.
    """

    weight: float
    occurrences: Float[np.ndarray, " laws"]
    rest: Law
    target: Law


def stego_laws(
    hosts: Float[np.ndarray, "laws symbols"],
    distortion: Cost | Float[np.ndarray, "laws symbols symbols"],
    entropy_weight: float,
    price: HistogramPrice | None = None,
    smoothing: float = 0.1,
    iterations: int = 150,
) -> tuple[Float[np.ndarray, "laws symbols"], Law]:
    """Laws r_k that nearly minimise sum_k n_k (min_w sum_ij p_ki w_ij d_ij - mu H(r_k)) plus a price.

    Sinkhorn iterations on the plans, smoothed by eps = `smoothing` mu, with K = exp(-d / eps):

        m_j = sum_i u_i K_ij,   r_j = m_j^(eps / (eps + mu)) exp(-g_j / (eps + mu)),   v_j = r_j / m_j,
        u_i = p_i / sum_j K_ij v_j

    g_j is the price of one more symbol j, 0 without a `HistogramPrice`. Errors shrink by 1 / (1 + smoothing)
    per iteration. A law that is slightly suboptimal costs distortion only in second order.

    Args:
        hosts: Host laws p, one per row, [laws, symbols]; symbols of probability 0 are not in the alphabet of
            that law.
        distortion: Distortion d common to all laws [symbols, symbols], or one per law [laws, symbols,
            symbols].
        entropy_weight: mu, above 0, in units of d per nat.
        price: Price of the joint histogram; none by default, in which case the n_k do not matter.
        smoothing: Above 0; values below 0.02 exceed the range of floating point.
        iterations: Number of iterations, at least 1.

    Returns:
        Stego laws r, one per row, and the prices g, [symbols].
    """
    kernel = np.exp(-distortion / (smoothing * entropy_weight))
    power, slope = smoothing / (1 + smoothing), 1 / ((1 + smoothing) * entropy_weight)
    allowed = hosts > 0
    prices = np.zeros(hosts.shape[1])
    v, r = allowed.astype(float), hosts
    for _ in range(iterations):
        u = hosts / np.maximum(np.matmul(kernel, v[..., None])[..., 0], TINY)
        m = np.matmul(u[..., None, :], kernel)[..., 0, :]
        r = allowed * m**power
        if price is not None:
            scales = price.occurrences / (r * np.exp(-slope * prices)).sum(1)
            prices = _nearer(prices, price, scales @ r, slope)
            r = r * np.exp(-slope * prices)
        v = r / np.maximum(m, TINY)
    return r / r.sum(1, keepdims=True), prices


def _nearer(prices: np.ndarray, price: HistogramPrice, shown: np.ndarray, slope: float) -> np.ndarray:
    """One Newton step towards g_j = gamma log(R_j / P_j), R_j = B_j + shown_j exp(-slope g_j)."""
    moved = shown * np.exp(-slope * prices)
    total = np.maximum(price.rest + moved, TINY)
    excess = prices - price.weight * np.log(total / price.target)
    return prices - excess / (1 + price.weight * slope * moved / total)


def _checked(host: ArrayLike, distortion: ArrayLike, rate_nats: float) -> tuple[Law, Cost]:
    p, d = np.asarray(host, dtype=float), np.asarray(distortion, dtype=float)
    if p.ndim != 1 or p.size < 2 or not (p > 0).all() or abs(p.sum() - 1) > 1e-9:
        raise InvalidOption("a host law has at least two symbols, all of positive probability, and sum 1")
    if d.shape != (p.size, p.size) or not np.isfinite(d).all() or (d < 0).any() or np.diag(d).any():
        raise InvalidOption(
            f"costs of shape {list(d.shape)} for {p.size} symbols: finite, not negative, 0 on the diagonal"
        )
    room = np.log(p.size) - entropy_nats(p)
    if not rate_nats >= 0:
        raise InvalidOption(f"{rate_nats:g} nats per symbol: it is never negative")
    if rate_nats > room + ROUNDING:
        raise Infeasible(
            f"{rate_nats:g} nats per symbol: a host of {p.size} symbols with an entropy of "
            f"{entropy_nats(p):.4g} takes {room:.4g}; hide less, or allow more symbols"
        )
    return p, d


def _rows(coupling: Cost, law: Law) -> Cost:
    occurs = law > 0
    rows = np.eye(len(law))
    rows[occurs] = coupling[occurs] / coupling[occurs].sum(1, keepdims=True)
    return rows
