"""Newton's method along the central path of the rate-distortion-perception problem, for a batch of points.

The dual of `semcom.theory.rdp` in variables a, theta, G and those of the perception measure:

    minimise  -<p, a> + theta target + psi   subject to  h_j + t_j = G_j,   t_j r_j = mu,   theta sigma = mu

- theta is lambda for R(D, P): h_j = log sum_i p_i exp(a_i - theta d_ij); and 1 / lambda for D(R, P), where
  h_j = theta log sum_i p_i exp((a_i - d_ij) / theta) is the perspective of that.
- psi of a transport cost is gamma P - <p, F> with F_i + G_j + s_ij = gamma c_ij and s_ij plan_ij = mu.
- psi of an f-divergence is gamma (P + sum_j p_j phi(G_j / gamma)) with phi the conjugate of f.

mu goes to 0 by Mehrotra's predictor and corrector. A Newton step is reduced to (a, theta, G, gamma), a
positive definite matrix with one row per letter of either alphabet and two more.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

State = dict[str, Tensor]  # variables by name, points first
Pairs = tuple[tuple[str, str], ...]  # of variables above 0 whose products go to 0

TO_BOUNDARY = 0.98  # largest share of the way to the nearest bound that a step takes
LEAST_CENTERING = 0.03
RIDGE = 1e-14  # added to the diagonal of a matrix scaled to a unit diagonal
CAUTION = 0.8  # of the same, where a product is held to a value above 0
HALF = 0.5  # share of the way to theta = 0 where D(R, P) is sought
REFINEMENTS = 2
SHARE_OF_TOLERANCE = 0.05  # of the sum of products, at which mu stops
HALVINGS, GROWTH = 30, 2.0


@dataclass(frozen=True, eq=False)
class Source:
    """Source and distortion part of the rate-distortion-perception problem.

    Args:
        law: Law p of the source letters, all above 0, [m].
        distortion: Distortion d, [m, n].
        target: Bound D on the distortion, or R on the rate in nats, [points].
        minimise: "rate" if the distortion is bounded, "distortion" if the rate is.
        ceiling: If a lower bound on the minimum exceeds this value, the constraints are infeasible.
    """

    law: Tensor
    distortion: Tensor
    target: Tensor
    minimise: Literal["rate", "distortion"]
    ceiling: float = math.inf


@dataclass(frozen=True, eq=False)
class Free:
    """Absent perception constraint, for which G = 0."""

    @property
    def pairs(self) -> Pairs:
        """Names of complementary variables: none without a perception constraint."""
        return ()


@dataclass(frozen=True, eq=False)
class Moved:
    """Perception constraint by optimal transport from p to r.

    Args:
        law: Law p of the source letters, [m].
        cost: Transport cost c, [m, n].
        allowed: Where the plan may be above 0, bool [m, n].
        bound: Bound P, [points]; None if only `allowed` constrains the plan, and gamma is absent.
    """

    law: Tensor
    cost: Tensor
    allowed: Tensor
    bound: Tensor | None

    @property
    def pairs(self) -> Pairs:
        """Names of complementary variables: those of the plan and, with a bound, of gamma."""
        return (("s", "plan"),) if self.bound is None else (("s", "plan"), ("gamma", "spare"))


@dataclass(frozen=True, eq=False)
class Diverging:
    """Perception constraint by the Kullback-Leibler divergence of p and r on one alphabet.

    Args:
        law: Law p of the letters, [n].
        of_source: True for KL(p || r), False for KL(r || p).
        bound: Bound P in nats, [points].
    """

    law: Tensor
    of_source: bool
    bound: Tensor

    @property
    def pairs(self) -> Pairs:
        """Names of complementary variables: those of gamma."""
        return (("gamma", "spare"),)

    def slope(self, v: Tensor) -> Tensor:
        """Derivative of the divergence with respect to an unnormalised measure v; 0 at v = p.

        Args:
            v: Positive measure, [points, n].

        Returns:
            Derivative, [points, n].
        """
        return 1 - self.law / v if self.of_source else (v / self.law).log()

    def value(self, v: Tensor) -> Tensor:
        """Divergence of p and a positive measure v that need not sum to 1.

        Args:
            v: Positive measure, [points, n].

        Returns:
            Divergence in nats, [points].
        """
        moved = self.law * (self.law / v).log() if self.of_source else v * (v / self.law).log()
        sign = 1 if self.of_source else -1
        return (moved + sign * (v - self.law)).sum(1)

    def bend(self, v: Tensor, price: Tensor, gamma: Tensor) -> Tensor:
        """Derivative dv / dG of the v with gamma slope(v) = G; for KL(p || r), with (gamma - G) v = gamma p.

        Args:
            v: Positive measure, [points, n].
            price: G, [points, n].
            gamma: Multiplier of the bound, [points, 1].

        Returns:
            Derivative, [points, n].
        """
        return v / (gamma[:, None] - price) if self.of_source else v / gamma[:, None]

    def conjugate(self, price: Tensor, gamma: Tensor) -> Tensor:
        """Convex conjugate of gamma times the divergence: the maximum over v of <G, v> - gamma divergence(v).

        Args:
            price: G, [points, n].
            gamma: Multiplier of the bound.

        Returns:
            Maximum, [points].
        """
        u = price / gamma[:, None]
        return gamma * ((-torch.log1p(-u) if self.of_source else torch.expm1(u)) @ self.law)


Measure = Free | Moved | Diverging


@dataclass(frozen=True, eq=False)
class Converged:
    """Result of the iteration for all points; every tensor starts with the axis of points.

    Args:
        state: Variables by name.
        residual: Sum of the violations of the optimality conditions, [points].
        iterations: Newton steps, [points].
        infeasible: Whether the constraints were shown to be infeasible, bool [points].
    """

    state: State
    residual: Tensor
    iterations: Tensor
    infeasible: Tensor


def follow_central_path(
    source: Source, measure: Measure, law: Tensor, tolerance: float, max_iterations: int
) -> Converged:
    """Solve all points by following the central path; a point leaves the batch when it has converged.

    Args:
        source: Source and distortion; costs should be of order 1.
        measure: Perception constraint; costs should be of order 1.
        law: Initial law r of the reproduction, all above 0, [n].
        tolerance: Bound on the sum of all violations.
        max_iterations: Newton steps after which a point is given up; a point is also given up when its steps
            become negligible.

    Returns:
        Variables, residuals and step counts of all points.
    """
    points = len(source.target)
    state = _start(source, measure, law)
    ended = {name: value.clone() for name, value in state.items()}
    residual = torch.full((points,), math.inf, dtype=law.dtype, device=law.device)
    iterations = torch.zeros(points, dtype=torch.int64, device=law.device)
    infeasible = torch.zeros_like(iterations, dtype=torch.bool)
    there = torch.arange(points, device=law.device)  # of the batch that is left
    step = _NewtonStep(source, measure, state)
    for iteration in range(max_iterations + 1):
        better = step.residual < residual[there]
        for name, value in step.state.items():
            ended[name][there[better]] = value[better]
        residual[there[better]] = step.residual[better]
        iterations[there] = iteration
        refuted = dual_value(step.source, step.measure, step.state) > source.ceiling
        infeasible[there] = refuted
        for name, value in step.state.items():
            ended[name][there[refuted]] = value[refuted]
        going = (step.residual > tolerance) & step.residual.isfinite() & ~refuted
        if iteration == max_iterations or not bool(going.any()):
            break
        there = there[going]
        source_left, measure_left = _select_source(source, there), _select_measure(measure, there)
        step = _NewtonStep(source_left, measure_left, {k: v[going] for k, v in step.state.items()})
        step = _damped(step, SHARE_OF_TOLERANCE * tolerance)
    return Converged(ended, residual, iterations, infeasible)


def _damped(step: "_NewtonStep", least_products: float) -> "_NewtonStep":
    """The conditions after a step, halved where it would leave them more violated than they were."""
    change, length = step.direction(least_products)
    for _ in range(HALVINGS):
        state = {name: value + _along(length, change[name]) for name, value in step.state.items()}
        after = _NewtonStep(step.source, step.measure, state)
        worse = ~(after.residual <= GROWTH * step.residual)
        if not bool(worse.any()):
            break
        length = torch.where(worse, length / 2, length)
    return after


def dual_value(source: Source, measure: Measure, state: State) -> Tensor:
    """Lower bound on the minimum from a feasible dual point near the state.

    Args:
        source: Source and distortion.
        measure: Perception constraint.
        state: Variables by name.

    Returns:
        Lower bound, [points].
    """
    h = _tilt(source, state["a"], state["theta"]).value
    price = state.get("G", torch.zeros_like(h))
    excess = (h - price).amax(1).clamp(min=0)  # a lower by it makes h lower by it
    value = state["a"] @ source.law - excess - state["theta"] * source.target
    if isinstance(measure, Moved):
        gamma = state["gamma"] if measure.bound is not None else torch.zeros_like(excess)
        room = gamma[:, None, None] * measure.cost - price[:, None]
        value = value + room.masked_fill(~measure.allowed, math.inf).amin(2) @ measure.law
    if isinstance(measure, Diverging):
        value = value - measure.conjugate(price, state["gamma"])
    if not isinstance(measure, Free) and measure.bound is not None:
        value = value - state["gamma"] * measure.bound
    return value


def coupling(source: Source, state: State) -> Tensor:
    """Joint law of source and reproduction at a state.

    Args:
        source: Source and distortion.
        state: Variables by name.

    Returns:
        Joint law, [points, m, n]; its column sums are r, its row sums p up to the residual.
    """
    return _tilt(source, state["a"], state["theta"]).posterior * state["r"][:, None]


@dataclass(frozen=True, eq=False)
class _Tilt:
    """Laws q of the source letters given each reproduction letter, and h, whose gradient in a is q."""

    value: Tensor  # h, [points, n]
    posterior: Tensor  # q_ij = dh_j / da_i, [points, m, n]
    slope: Tensor  # dh_j / dtheta, [points, n]
    centred: Tensor  # feature of theta less its mean under q, [points, m, n]
    curvature: Tensor  # second derivatives are this times covariances of features, [points]


def _tilt(source: Source, a: Tensor, theta: Tensor) -> _Tilt:
    if source.minimise == "rate":
        exponent = a[:, :, None] - theta[:, None, None] * source.distortion
        feature, scale = -source.distortion.expand_as(exponent), torch.ones_like(theta)
    else:
        exponent = (a[:, :, None] - source.distortion) / theta[:, None, None]
        feature, scale = -exponent, theta
    weighted = source.law.log()[:, None] + exponent
    log_sum = torch.logsumexp(weighted, 1)
    posterior = (weighted - log_sum[:, None]).exp()
    mean = (posterior * feature).sum(1)
    slope = mean if source.minimise == "rate" else log_sum + mean
    return _Tilt(scale[:, None] * log_sum, posterior, slope, feature - mean[:, None], 1 / scale)


def _start(source: Source, measure: Measure, law: Tensor) -> State:
    points, (m, n) = len(source.target), source.distortion.shape
    r = law.expand(points, n)
    one = torch.ones_like(source.target)
    zero = torch.zeros_like(r)
    a, theta = one[:, None].expand(points, m) * 0, one
    h = _tilt(source, a, theta).value
    if isinstance(measure, Free):
        return {
            "a": a - h.amax(1, keepdim=True) - 1,
            "theta": theta,
            "sigma": 0.1 * one,
            "r": r,
            "t": zero + 1,
        }
    price = h + 1
    extra: State = {}
    if isinstance(measure, Moved):
        gamma = one if measure.bound is not None else 0 * one
        s = gamma[:, None, None] * measure.cost - price[:, None]
        f = s.masked_fill(~measure.allowed, math.inf).amin(2) - 1
        share = measure.allowed * law / (measure.allowed * law).sum(1, keepdim=True)
        extra = {"F": f, "s": (s - f[:, :, None]).masked_fill(~measure.allowed, 1.0)}
        extra["plan"] = (measure.law[:, None] * share).expand_as(extra["s"])
    else:  # v = p and G = 0
        a, price = a - price.amax(1, keepdim=True), zero
        extra = {"v": measure.law.expand_as(r)}
    if measure.bound is not None:
        extra |= {"gamma": one, "spare": 0.1 * one}
        if isinstance(measure, Diverging):  # v = p spares all of a bound, which may be of many nats
            spare = measure.bound.clamp(min=0.1)
            extra |= {"gamma": 0.1 / spare, "spare": spare}
    return {"a": a, "theta": theta, "sigma": 0.1 * one, "r": r, "t": zero + 1, "G": price} | extra


class _NewtonStep:
    """Linearised optimality conditions at a state: their residuals, and steps towards products mu."""

    def __init__(self, source: Source, measure: Measure, state: State):
        self.source, self.measure, self.state = source, measure, state
        self.pairs = (("t", "r"), ("theta", "sigma"), *measure.pairs)
        self.tilt = _tilt(source, state["a"], state["theta"])
        room = state.get("G", 0) - self.tilt.value  # t, but for the curvature of h over the last step
        state["t"] = torch.where(room > state["t"] / 2, room, state["t"])
        self.wrong = self._violations()
        self.products = torch.stack([_total(state[one] * state[other]) for one, other in self.pairs]).sum(0)
        self.residual = self.products + self._size(self.wrong)

    def direction(self, least_products: float) -> tuple[State, Tensor]:
        """Mehrotra's predictor-corrector step, and the step length."""
        state, count = self.state, self._pair_count()
        self._factorise()
        affine = self._step({})
        reach = self._reach(affine, 1.0)
        moved = {name: state[name] + _along(reach, affine[name]) for pair in self.pairs for name in pair}
        after = torch.stack([_total(moved[one] * moved[other]) for one, other in self.pairs]).sum(0)
        centering = ((after / self.products) ** 3).clamp(LEAST_CENTERING, 1)
        mu = (centering * self.products).clamp(min=least_products) / count
        aims = {
            multiplier: _along(mu, torch.ones_like(state[slack])) - affine[slack] * affine[multiplier]
            for slack, multiplier in self.pairs
        }
        step = self._step(aims)
        return step, self._reach(step, TO_BOUNDARY)

    def _violations(self) -> State:
        """Violations of the linear conditions and of the slacks' definitions, inexact ones only."""
        source, measure, state = self.source, self.measure, self.state
        r = state["r"]
        wrong = {
            "a": (self.tilt.posterior @ r[:, :, None])[:, :, 0] - source.law,
            "theta": (r * self.tilt.slope).sum(1) + source.target - state["sigma"],
            "t": self.tilt.value + state["t"] - state.get("G", 0),
        }
        if isinstance(measure, Moved):
            plan = state["plan"]
            wrong |= {"G": plan.sum(1) - r, "F": plan.sum(2) - measure.law}
            s = state["s"] + state["F"][:, :, None] + state["G"][:, None]
            if measure.bound is not None:
                s = s - state["gamma"][:, None, None] * measure.cost
                wrong["gamma"] = measure.bound - (plan * measure.cost).sum((1, 2)) - state["spare"]
            wrong["s"] = s * measure.allowed
        if isinstance(measure, Diverging):
            v = state["v"]
            wrong["G"] = v - r
            wrong["gamma"] = measure.bound - measure.value(v) - state["spare"]
            if measure.of_source:
                wrong["v"] = v - measure.law - state["G"] * v / state["gamma"][:, None]
            else:
                wrong["v"] = measure.slope(v) - state["G"] / state["gamma"][:, None]
        return wrong

    def _size(self, wrong: State) -> Tensor:
        """Sums of absolute values; slacks count by the largest, bounds by their multiplier."""
        total = torch.zeros_like(self.state["theta"])
        for name, value in wrong.items():
            size = value.abs()
            total = total + (size.flatten(1).amax(1) if name in ("t", "s") else _total(size))
        return total

    def _pair_count(self) -> int:
        count = self.source.distortion.shape[1] + 1
        if isinstance(self.measure, Moved):
            count += int(self.measure.allowed.sum())
        return count + (("gamma", "spare") in self.measure.pairs)

    def _factorise(self) -> None:
        """Cholesky factor of the reduced matrix over (a, theta, G, gamma), scaled to a unit diagonal."""
        state, tilt, measure = self.state, self.tilt, self.measure
        points, m, n = tilt.posterior.shape
        priced, bounded = "G" in state, "gamma" in state
        x, g = slice(0, m + 1), slice(m + 1, m + 1 + n)
        matrix = tilt.value.new_zeros(points, m + 1 + n * priced + bounded, m + 1 + n * priced + bounded)
        self.weight = state["r"] / state["t"]
        self.gradient = torch.cat([tilt.posterior, tilt.slope[:, None]], 1)
        joint = tilt.posterior * state["r"][:, None]
        spread = joint * tilt.centred
        matrix[:, :m, :m] = -(joint @ tilt.posterior.mT)
        matrix[:, :m, :m].diagonal(dim1=1, dim2=2).add_(joint.sum(2))
        matrix[:, :m, m] = matrix[:, m, :m] = spread.sum(2)
        matrix[:, m, m] = (spread * tilt.centred).sum((1, 2))
        matrix[:, x, x] *= tilt.curvature[:, None, None]
        matrix[:, m, m] += state["sigma"] / state["theta"]
        weighted = self.gradient * self.weight[:, None]
        matrix[:, x, x] += weighted @ self.gradient.mT
        if priced:
            matrix[:, x, g] = -weighted
            matrix[:, g, x] = -weighted.mT
            matrix[:, g, g].diagonal(dim1=1, dim2=2).add_(self.weight)
        if isinstance(measure, Moved):
            self.theta = measure.allowed * state["plan"] / state["s"]
            self.of_f = self.theta.sum(2)
            self.share = self.theta / self.of_f[:, :, None]
            matrix[:, g, g] -= self.theta.mT @ self.share
            matrix[:, g, g].diagonal(dim1=1, dim2=2).add_(self.theta.sum(1))
            # All a and G up and all F down by the same changes nothing: hold the sum of G.
            matrix[:, g, g] += matrix[:, g, g].diagonal(dim1=1, dim2=2).mean(1)[:, None, None] / n
            if bounded:
                costs = self.theta * measure.cost
                self.f_gamma = costs.sum(2)
                between = (self.share * self.f_gamma[:, :, None]).sum(1) - costs.sum(1)
                matrix[:, g, -1] = matrix[:, -1, g] = between
                matrix[:, -1, -1] = (costs * measure.cost).sum((1, 2)) - (self.f_gamma**2 / self.of_f).sum(1)
        if isinstance(measure, Diverging):
            self.bend = measure.bend(state["v"], state["G"], state["gamma"])
            self.slope = measure.slope(state["v"])
            matrix[:, g, g].diagonal(dim1=1, dim2=2).add_(self.bend)
            matrix[:, g, -1] = matrix[:, -1, g] = -self.bend * self.slope
            matrix[:, -1, -1] = (self.bend * self.slope**2).sum(1)
        if bounded:
            matrix[:, -1, -1] += state["spare"] / state["gamma"]
        self.scale = matrix.diagonal(dim1=1, dim2=2).clamp(min=1e-300).rsqrt()
        scaled = matrix * self.scale[:, :, None] * self.scale[:, None]
        scaled.diagonal(dim1=1, dim2=2).add_(RIDGE)
        self.factor, failed = torch.linalg.cholesky_ex(scaled)
        ridge = RIDGE
        while bool((failed > 0).any()) and ridge < 1e-6:
            ridge *= 100
            scaled.diagonal(dim1=1, dim2=2).add_(ridge)
            self.factor, failed = torch.linalg.cholesky_ex(scaled)

    def _step(self, aims: State) -> State:
        """Step to products `aims` (0 where absent), refined against the unreduced conditions."""
        state = self.state
        offset = {
            multiplier: aims[multiplier] / state[slack] - state[multiplier]
            if multiplier in aims
            else -state[multiplier]
            for slack, multiplier in self.pairs
        }
        if isinstance(self.measure, Moved):
            offset["plan"] = offset["plan"] * self.measure.allowed
        wrong = self.wrong
        step = self._reduced(wrong, offset)
        for _ in range(REFINEMENTS):
            left = self._linear_residual(step, wrong)
            none = {name: torch.zeros_like(value) for name, value in offset.items()}
            more = self._reduced(left, none)
            step = {name: value + more[name] for name, value in step.items()}
        return step

    def _linear_residual(self, step: State, wrong: State) -> State:
        """Residual of the stationarity conditions after a step; slacks and multipliers are consistent."""
        state, tilt, measure = self.state, self.tilt, self.measure
        joint = tilt.posterior * state["r"][:, None]
        da, dtheta, dr = step["a"], step["theta"], step["r"]
        spread = joint * tilt.centred
        inner = (tilt.posterior * da[:, :, None]).sum(1)  # mean of da given each reproduction letter
        bent_a = joint.sum(2) * da - (joint * inner[:, None]).sum(2) + spread.sum(2) * dtheta[:, None]
        bent_theta = (spread.sum(2) * da).sum(1) + (spread * tilt.centred).sum((1, 2)) * dtheta
        left = {
            "a": wrong["a"] + tilt.curvature[:, None] * bent_a + (tilt.posterior @ dr[:, :, None])[:, :, 0],
            "theta": wrong["theta"] + tilt.curvature * bent_theta + (tilt.slope * dr).sum(1) - step["sigma"],
            "t": torch.zeros_like(wrong["t"]),
        }
        if isinstance(measure, Moved):
            left["G"] = wrong["G"] - dr + step["plan"].sum(1)
            left["F"] = wrong["F"] + step["plan"].sum(2)
            left["s"] = torch.zeros_like(wrong["s"])
            if "gamma" in step:
                left["gamma"] = wrong["gamma"] - (step["plan"] * measure.cost).sum((1, 2)) - step["spare"]
        if isinstance(measure, Diverging):
            left["G"] = wrong["G"] - dr + step["v"]
            left["gamma"] = wrong["gamma"] - (self.slope * step["v"]).sum(1) - step["spare"]
            left["v"] = torch.zeros_like(wrong["v"])
        return left

    def _reduced(self, wrong: State, offset: State) -> State:
        """Solve the linearised conditions with these right-hand sides."""
        state, measure = self.state, self.measure
        m = self.source.distortion.shape[0]
        law = offset["r"] + self.weight * wrong["t"]
        right_x = (
            -torch.cat([wrong["a"], wrong["theta"][:, None]], 1) - (self.gradient @ law[:, :, None])[:, :, 0]
        )
        right_x[:, m] += offset["sigma"]
        parts = [right_x]
        if "G" in state:
            right_g = law - wrong["G"]
            right_gamma = offset["spare"] - wrong["gamma"] if "gamma" in state else None
            if isinstance(measure, Moved):
                plan = offset["plan"] + self.theta * wrong["s"]
                right_f = -wrong["F"] - plan.sum(2)
                right_g = right_g - plan.sum(1) - (self.share * right_f[:, :, None]).sum(1)
                if right_gamma is not None:
                    right_gamma = right_gamma + (plan * measure.cost).sum((1, 2))
                    right_gamma = right_gamma + (self.f_gamma * right_f / self.of_f).sum(1)
            if isinstance(measure, Diverging) and right_gamma is not None:
                late = self._late(measure, wrong)
                right_g, right_gamma = right_g - late, right_gamma + (self.slope * late).sum(1)
            parts.append(right_g)
            if right_gamma is not None:
                parts.append(right_gamma[:, None])
        right = self.scale * torch.cat(parts, 1)
        solved = self.scale * torch.cholesky_solve(right[:, :, None], self.factor)[:, :, 0]
        step = {"a": solved[:, :m], "theta": solved[:, m]}
        step["sigma"] = offset["sigma"] - state["sigma"] / state["theta"] * step["theta"]
        dt = -wrong["t"] - (self.gradient.mT @ solved[:, : m + 1, None])[:, :, 0]
        if "G" in state:
            n = state["G"].shape[1]
            step["G"] = solved[:, m + 1 : m + 1 + n]
            dt = dt + step["G"]
            if "gamma" in state:
                step["gamma"] = solved[:, -1]
                step["spare"] = offset["spare"] - state["spare"] / state["gamma"] * step["gamma"]
            if isinstance(measure, Moved):
                df = right_f - (self.theta @ step["G"][:, :, None])[:, :, 0]
                moved = -step["G"][:, None]
                if "gamma" in state:
                    df = df + self.f_gamma * step["gamma"][:, None]
                    moved = moved + step["gamma"][:, None, None] * measure.cost
                step["F"] = df / self.of_f
                step["s"] = (moved - step["F"][:, :, None] - wrong["s"]) * measure.allowed
                step["plan"] = offset["plan"] - self.theta * step["s"]
            if isinstance(measure, Diverging):
                step["v"] = late + self.bend * (step["G"] - self.slope * step["gamma"][:, None])
        step["t"] = dt
        step["r"] = offset["r"] - self.weight * dt
        return step

    def _late(self, measure: Diverging, wrong: State) -> Tensor:
        """What v has to move by where neither G nor gamma moves."""
        gamma = self.state["gamma"][:, None]
        share = 1 / self.state["v"] if measure.of_source else 1
        return -self.bend * gamma * wrong["v"] * share

    def _reach(self, step: State, share: float) -> Tensor:
        """Step length, at most 1, that goes this share of the way to the nearest bound."""
        nearest = torch.full_like(self.state["theta"], math.inf)
        bounds = [(self.state[name], step[name]) for pair in self.pairs for name in pair]
        if self.source.minimise == "distortion" and len(self.source.law) > 1:  # h is curved as 1 / theta
            bounds.append((HALF * self.state["theta"], step["theta"]))
        if isinstance(self.measure, Diverging):
            bounds.append((CAUTION * self.state["v"], step["v"]))
            if self.measure.of_source:
                room = self.state["gamma"][:, None] - self.state["G"]
                bounds.append((CAUTION * room, step["gamma"][:, None] - step["G"]))
        for value, change in bounds:
            ratio = torch.where(change < 0, -value / change, math.inf)
            nearest = torch.minimum(nearest, ratio.flatten(1).amin(1) if ratio.dim() > 1 else ratio)
        return (share * nearest).clamp(max=1)


def _total(values: Tensor) -> Tensor:
    return values.flatten(1).sum(1) if values.dim() > 1 else values


def _along(length: Tensor, values: Tensor) -> Tensor:
    return length.reshape(-1, *[1] * (values.dim() - 1)) * values


def _select_source(source: Source, chosen: Tensor) -> Source:
    return replace(source, target=source.target[chosen])


def _select_measure(measure: Measure, chosen: Tensor) -> Measure:
    if isinstance(measure, Free) or measure.bound is None:
        return measure
    return replace(measure, bound=measure.bound[chosen])
