"""The R(D, P) problem of a discrete source: checked inputs, and the methods by which points are solved."""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike
from torch import Tensor

from semcom.errors import Infeasible, InvalidOption, NotConverged
from semcom.theory.interior_point import (
    Converged,
    Diverging,
    Free,
    Measure,
    Moved,
    Source,
    coupling,
    dual_value,
    follow_central_path,
)
from semcom.theory.transport import (
    least_distortion_coupling,
    least_transport,
    monge,
    monotone_transport,
)

MASS_TOLERANCE = 1e-9  # allowed error of the sum of a law
NEAR = 1e-12  # share of the mean excess cost: a bound this near to its least value is set to it
ENTRIES_AT_ONCE = 2**21  # points times letters squared; larger batches are split, to save memory
NAMED = 8  # largest number of points that a message lists
LARGEST_PROGRAM = 2**16  # largest plan, in entries, for which a linear program is solved

Values = ArrayLike | Tensor


@dataclass(frozen=True, eq=False)
class Transport:
    """Perception measured by optimal transport: the least mean cost of moving the source law to r.

    delta(p, r) = min <Pi, c> over plans Pi with marginals p and r. With c = abs(x - y)^2 it is W2^2.

    Args:
        cost: Cost c, [source letters, reproduction letters], finite.
    """

    cost: Values


@dataclass(frozen=True)
class TotalVariation:
    """Perception measured by total variation, half the sum of abs(p - r); both alphabets are equal."""


@dataclass(frozen=True)
class Divergence:
    """Perception measured by a Kullback-Leibler divergence in nats; both alphabets are equal.

    Args:
        of: "source" for KL(p || r), "reproduction" for KL(r || p).
    """

    of: Literal["source", "reproduction"]


Perception = Transport | TotalVariation | Divergence


@dataclass(frozen=True, eq=False)
class RDPSolution:
    """Optimal couplings at some points (D, P) or (R, P), with proof of their optimality.

    Args:
        coupling: Joint law of source and reproduction, [*points, source, reproduction]; its row sums are p.
        reproduction: Law r of the reproduction, the column sums, [*points, reproduction].
        rate_nats: Mutual information of the coupling in nats.
        distortion: Expected distortion E d of the coupling.
        perception: delta(p, r), not regularised; NaN if no measure was given. For plans of more than 2^16
            entries with a cost that is not Monge, an upper bound where the constraint does not bind.
        bound: Lower bound proven by the dual: R(D, P) in nats, or D(R, P), is at least this.
        distortion_multiplier: lambda = -dR/dD in nats per unit of distortion; inf where a bound on the rate
            is not active, since its multiplier in D(R, P) is 1 / lambda = 0.
        perception_multiplier: gamma = -dR/dP in nats per unit; inf at the least value of P, and where P is
            active but a bound on the rate is not.
        distortion_active: Whether lambda > 0; otherwise the rate is 0.
        perception_active: Whether gamma > 0.
        rate_active: Whether lambda < inf; otherwise D(R, P) is the least distortion at that perception, and
            `rate_nats` is what this coupling uses of the allowed R.
        kkt_residual: Sum of the violations of all optimality conditions, complementarity included, with costs
            in units of their mean.
        iterations: Number of Newton steps.
    """

    coupling: Float[Tensor, "*points source reproduction"]
    reproduction: Float[Tensor, "*points reproduction"]
    rate_nats: Float[Tensor, "*points"]
    distortion: Float[Tensor, "*points"]
    perception: Float[Tensor, "*points"]
    bound: Float[Tensor, "*points"]
    distortion_multiplier: Float[Tensor, "*points"]
    perception_multiplier: Float[Tensor, "*points"]
    distortion_active: Bool[Tensor, "*points"]
    perception_active: Bool[Tensor, "*points"]
    rate_active: Bool[Tensor, "*points"]
    kkt_residual: Float[Tensor, "*points"]
    iterations: Int[Tensor, "*points"]

    @property
    def rate_bits(self) -> Float[Tensor, "*points"]:
        """Mutual information of the coupling in bits, [*points]."""
        return self.rate_nats / math.log(2)


@dataclass(frozen=True, eq=False)
class Problem:
    """R(D, P) problem in normalised form: positive probabilities, least costs subtracted, mean cost 1.

    Args:
        law: Law p of the letters with positive probability.
        there: Mask of the letters of the given source with positive probability.
        distortion: Distortion d as given.
        head: Law of the channel's input: p, or a single letter if the channel does not see the source.
        excess: d less the least value of each row, divided by its mean; rows as in `head`.
        least_distortion: E min_j d_ij.
        distortion_scale: Mean by which `excess` was divided.
        measure: Perception measure delta.
        cost: Transport cost c as given, or that of total variation; None for a divergence.
        cost_excess: c less the least value of each row, divided by its mean.
        least_cost: E min_j c_ij.
        cost_scale: Mean by which `cost_excess` was divided.
    """

    law: Tensor
    there: Tensor
    distortion: Tensor
    head: Tensor
    excess: Tensor
    least_distortion: float
    distortion_scale: float
    measure: Perception | None
    cost: Tensor | None
    cost_excess: Tensor
    least_cost: float
    cost_scale: float

    @classmethod
    def of(cls, source: Values, distortion: Values, measure: Perception | None) -> "Problem":
        """Check and normalise a source and its costs.

        Args:
            source: Law p of the source letters.
            distortion: Distortion d, [source letters, reproduction letters].
            measure: Perception measure delta, or None.

        Returns:
            The normalised problem.

        Raises:
            InvalidOption: The source is not a law, or matrices do not fit or are not finite.
        """
        p = _finite(source, "source")
        d = _finite(distortion, "distortion matrix").to(p.device)
        if p.dim() != 1 or d.dim() != 2 or len(d) != len(p) or not d.numel():
            raise InvalidOption(
                f"source of shape {list(p.shape)}, distortion matrix of {list(d.shape)}: one row per letter"
            )
        if bool((p < 0).any()) or abs(float(p.sum()) - 1) > MASS_TOLERANCE:
            raise InvalidOption(
                f"source with values from {float(p.min()):g}, sum {float(p.sum()):.9g}: a law is not "
                "negative and sums to 1; divide by the sum"
            )
        if isinstance(measure, Transport):
            cost = _finite(measure.cost, "cost matrix").to(p.device)
            if cost.shape != d.shape:
                raise InvalidOption(
                    f"cost matrix of {list(cost.shape)}, distortion matrix of {list(d.shape)}: must be alike"
                )
        else:
            if measure is not None and d.shape[0] != d.shape[1]:
                raise InvalidOption(
                    f"{len(d)} letters of the source, {d.shape[1]} of the reproduction: total variation and "
                    "divergences need one alphabet; use Transport"
                )
            differ = 1 - torch.eye(len(d), dtype=p.dtype, device=p.device)
            cost = differ if isinstance(measure, TotalVariation) else None
        if isinstance(measure, Divergence) and bool((p == 0).any()):
            raise InvalidOption(
                f"letter {int((p == 0).nonzero()[0])} has probability 0, of which no divergence is finite; "
                "leave it out of both alphabets"
            )
        there = p > 0
        law = p[there]
        excess, least, scale = _reduced(law, d[there])
        costs = (torch.zeros_like(d[there]), 0.0, 1.0) if cost is None else _reduced(law, cost[there])
        return cls(law, there, d, law, excess, least, scale, measure, cost, *costs)

    def without_information(self) -> "Problem":
        """Problem with equal source and costs whose channel does not see the source (rate 0)."""
        mean = self.law @ self.distortion[self.there]
        single = torch.ones_like(self.law[:1])
        excess, least, scale = _reduced(single, mean[None])
        return replace(self, head=single, excess=excess, least_distortion=least, distortion_scale=scale)

    def solve(
        self,
        target: Tensor,
        perception: Tensor,
        minimise: Literal["rate", "distortion"],
        tolerance: float = 1e-8,
        max_iterations: int = 200,
        start: Tensor | None = None,
    ) -> RDPSolution:
        """Solve all points, trying cheap special cases before the general method.

        Args:
            target: Excess distortion in units of `distortion_scale`, or rate in nats: the bound on what is
                not minimised.
            perception: Bound P as given, of the same shape.
            minimise: "rate" or "distortion".
            tolerance: Bound on the KKT residual.
            max_iterations: Newton steps per point.
            start: Initial law of the reproduction, positive.

        Returns:
            Solutions at all points.

        Raises:
            Infeasible: P, or D at that P, is below the least possible value.
            NotConverged: A residual stayed above the tolerance.
        """
        shape = target.shape
        target, perception = target.flatten(), perception.flatten()
        over = (perception - self.least_cost) / self.cost_scale
        if bool((over < -NEAR).any()):
            raise Infeasible(
                f"perception {float(perception.min()):g} is below the least possible, {self.least_cost:.6g}; "
                "allow at least that"
            )
        unbounded = perception.isinf()
        if not isinstance(self.measure, Divergence):
            unbounded |= over >= self.cost_excess.max()
        at_floor = (over <= NEAR) & ~unbounded
        task = _Task(minimise, tolerance, max_iterations, start)
        best = self._unsolved(len(target))

        def improve(which: Tensor, way: Callable[[Tensor], RDPSolution]) -> None:
            for chosen in self._batches(which & (best.kkt_residual > tolerance)):
                found = way(chosen)
                better = found.kkt_residual < best.kkt_residual[chosen]
                for field in fields(RDPSolution):
                    getattr(best, field.name)[chosen[better]] = getattr(found, field.name)[better]

        def free(chosen: Tensor) -> RDPSolution:
            found = self._solve_alike(target[chosen], None, False, task)
            exceeds = (found.perception > perception[chosen]) & ~unbounded[chosen]
            return replace(found, kkt_residual=found.kkt_residual.masked_fill(exceeds, math.inf))

        everywhere = torch.ones_like(at_floor)
        bounds_rate = minimise == "distortion" and len(self.head) == len(self.law)
        if bounds_rate:
            improve(everywhere, lambda i: self._at_nearest(target[i], perception[i]))
        improve(at_floor, lambda i: self._solve_alike(target[i], over[i], True, task))
        improve(~at_floor if self._cheap() else unbounded, free)
        improve(~at_floor & ~unbounded, lambda i: self._solve_alike(target[i], over[i], False, task))
        if bounds_rate:
            improve(everywhere, lambda i: self._at_least_distortion(target[i], perception[i]))
        if minimise == "rate":
            improve(everywhere, lambda i: self._independent(target[i], at_floor[i]))
        found = _each(best, lambda values: values.reshape(shape + values.shape[1:]))
        _check_converged(found, tolerance)
        return found

    def _unsolved(self, points: int) -> RDPSolution:
        """Placeholder solution with an infinite residual at all points."""
        each = self.law.new_zeros(points)
        joint = self.law.new_zeros(points, *self.distortion.shape)
        no = each.bool()
        return RDPSolution(
            coupling=joint,
            reproduction=joint[:, 0].clone(),
            rate_nats=each.clone(),
            distortion=each.clone(),
            perception=each.clone(),
            bound=each.clone(),
            distortion_multiplier=each.clone(),
            perception_multiplier=each.clone(),
            distortion_active=no.clone(),
            perception_active=no.clone(),
            rate_active=no.clone(),
            kkt_residual=each + math.inf,
            iterations=each.long(),
        )

    def _at_nearest(self, rate_nats: Tensor, perception: Tensor) -> RDPSolution:
        """Map every letter to its nearest: solves D(R, P) where neither R nor P is below what that needs."""
        nearest = self.excess.argmin(1)
        if self.excess.shape[0] == self.excess.shape[1] and not bool(self.excess.diagonal().any()):
            nearest = torch.arange(len(nearest), device=nearest.device)
        joint = torch.nn.functional.one_hot(nearest, self.excess.shape[1]) * self.law[:, None]
        found = self._described(self._of_all_letters(joint[None]), torch.zeros_like(rate_nats[:1]).bool())
        found = _each(found, lambda values: values.expand(len(rate_nats), *values.shape[1:]))
        allowed = (found.rate_nats <= rate_nats) & ~(found.perception > perception)
        return replace(found, kkt_residual=found.kkt_residual.masked_fill(~allowed, math.inf))

    def _at_least_distortion(self, rate_nats: Tensor, perception: Tensor) -> RDPSolution:
        """Least distortion at P by a linear program: solves D(R, P) where R is not below what that needs."""
        cost = 1 - torch.eye(len(self.law)).to(self.law) if self.cost is None else self.cost[self.there]
        linear = perception.isfinite() & (perception.eq(0) | (self.cost is not None))
        if cost.numel() > LARGEST_PROGRAM or not bool(linear.any()):
            return self._unsolved(len(perception))
        levels, which = perception.where(linear, perception[linear][0]).unique(return_inverse=True)
        couplings = [
            least_distortion_coupling(self.law, self.distortion[self.there], cost, float(x)) for x in levels
        ]
        joint = self._of_all_letters(torch.stack(couplings))[which]
        above = (joint * self.distortion).sum((1, 2)) - self.least_distortion
        found = self._described(joint, above > NEAR * self.distortion_scale)
        allowed = linear & (found.rate_nats <= rate_nats)
        return replace(found, kkt_residual=found.kkt_residual.masked_fill(~allowed, math.inf))

    def _independent(self, target: Tensor, at_floor: Tensor) -> RDPSolution:
        """Solution of rate 0, with the law nearest to the source: solves R(D, P) where D allows that."""
        if self.measure is None:
            nearest = (self.law @ self.excess).argmin().expand(len(self.law))
        else:
            nearest = self.there.nonzero()[:, 0] if self.cost is None else self.cost_excess.argmin(1)
        letters = torch.nn.functional.one_hot(nearest, self.distortion.shape[1]).to(self.law)
        joint = self._of_all_letters((self.law[:, None] * (self.law @ letters))[None])
        found = self._described(joint, at_floor[:1])
        found = _each(found, lambda values: values.expand(len(target), *values.shape[1:]))
        allowed = found.distortion <= self._given(target)
        zero, no = torch.zeros_like(target), torch.zeros_like(at_floor)
        return replace(
            found,
            bound=zero,
            distortion_multiplier=zero,
            perception_multiplier=zero.masked_fill(at_floor, math.inf),
            distortion_active=no,
            perception_active=at_floor,
            rate_active=~no,
            kkt_residual=zero.masked_fill(~allowed, math.inf),
        )

    def _of_all_letters(self, joint: Tensor) -> Tensor:
        """Joint law with rows of 0 added for letters of probability 0."""
        full = joint.new_zeros(len(joint), *self.distortion.shape)
        full[:, self.there] = joint
        return full

    def _cheap(self) -> bool:
        """Whether delta needs no linear program, so that it can be evaluated to see whether it binds."""
        if isinstance(self.measure, Transport):
            return self.cost is not None and monge(self.cost)
        return self.measure is not None

    def _batches(self, which: Tensor) -> list[Tensor]:
        rows, columns = self.distortion.shape
        chosen = which.nonzero()[:, 0]
        return list(chosen.split(max(1, ENTRIES_AT_ONCE // (rows * columns)))) if len(chosen) else []

    def _solve_alike(
        self,
        target: Tensor,
        over: Tensor | None,
        at_floor: bool,
        task: "_Task",
    ) -> RDPSolution:
        """Solve points whose perception bound is of one kind."""
        minimise, tolerance = task.minimise, task.tolerance
        measure, columns = self._measure(over, at_floor)
        count = int(columns.sum())
        entropy = -float(self.head @ self.head.log())
        most = min(entropy, math.log(count))
        ceiling = most + math.sqrt(tolerance) if minimise == "rate" else math.inf
        if minimise == "distortion":
            target = target.clamp(max=most + 1)  # more is never used
        head = Source(self.head, self.excess[:, columns], target, minimise, ceiling)
        if task.start is not None and bool(columns.all()):
            start = task.start
        else:
            start = self.law if isinstance(measure, Diverging) else torch.full_like(target[:1], 1 / count)
        found = follow_central_path(head, measure, start.expand(count), tolerance, task.max_iterations)
        theta = found.state["theta"]
        value = dual_value(head, measure, found.state)
        if bool(found.infeasible.any()):
            worst = int((value - ceiling).argmax())
            least = target[worst] + (value[worst] - ceiling) / theta[worst]
            raise Infeasible(
                f"distortion {float(self._given(target[worst])):g} is below the least possible at that "
                f"perception, at least {float(self._given(least)):.6g}; allow more of either"
            )
        joint = coupling(head, found.state)
        channel = joint.new_zeros(*joint.shape[:2], len(columns))
        channel[:, :, columns] = joint / joint.sum(2, keepdim=True)
        joint = self.law[:, None] * channel  # one row for all letters without information
        return self._measured(self._of_all_letters(joint), found, value, at_floor, minimise)

    def _measure(self, over: Tensor | None, at_floor: bool) -> tuple[Measure, Tensor]:
        """Perception constraint for the solver, and the reproduction letters that it allows."""
        columns = torch.ones_like(self.distortion[0], dtype=torch.bool)
        if over is None:
            return Free(), columns
        if at_floor:
            divergence = isinstance(self.measure, Divergence)
            allowed = (
                torch.eye(len(self.law), device=self.law.device).bool()
                if divergence
                else self.cost_excess <= 0
            )
            columns = allowed.any(0)
            return Moved(self.law, self.cost_excess[:, columns] * 0, allowed[:, columns], None), columns
        if isinstance(self.measure, Divergence):
            return Diverging(self.law, self.measure.of == "source", over), columns
        return Moved(
            self.law, self.cost_excess, torch.ones_like(self.cost_excess, dtype=torch.bool), over
        ), columns

    def _measured(
        self,
        joint: Tensor,
        found: Converged,
        value: Tensor,
        at_floor: bool,
        minimise: Literal["rate", "distortion"],
    ) -> RDPSolution:
        """Convert the solver's result to the given units."""
        state = found.state
        theta, sigma = state["theta"], state["sigma"]
        gamma, spare = state.get("gamma", 0 * theta), state.get("spare", 1 + 0 * theta)
        perception_active = torch.ones_like(theta).bool() if at_floor else gamma > spare
        shown = self._described(joint, perception_active, None if at_floor else state.get("plan"))
        price = torch.full_like(theta, math.inf) if at_floor else gamma / self.cost_scale
        shown = replace(shown, kkt_residual=found.residual, iterations=found.iterations)
        if minimise == "rate":
            return replace(
                shown,
                bound=value,
                distortion_multiplier=theta / self.distortion_scale,
                perception_multiplier=price,
                distortion_active=theta > sigma,
                rate_active=torch.ones_like(theta).bool(),
            )
        active = theta > sigma
        return replace(
            shown,
            bound=self.least_distortion + value * self.distortion_scale,
            distortion_multiplier=torch.where(active, 1 / (theta * self.distortion_scale), math.inf),
            perception_multiplier=torch.where(active, price / theta, shown.perception_multiplier),
            rate_active=active,
        )

    def _described(self, joint: Tensor, perception_active: Tensor, plan: Tensor | None = None) -> RDPSolution:
        """Solutions for couplings of the least distortion at their perception, at whatever rate."""
        law, r = joint.sum(2), joint.sum(1)
        independent = law[:, :, None] * r[:, None]
        information = torch.special.xlogy(joint, joint / independent.clamp(min=1e-300)).sum((1, 2))
        distortion = (joint * self.distortion).sum((1, 2))
        true, zero = torch.ones_like(perception_active), torch.zeros_like(distortion)
        return RDPSolution(
            coupling=joint,
            reproduction=r,
            rate_nats=information.clamp(min=0),
            distortion=distortion,
            perception=self._perception(r, plan, perception_active),
            bound=distortion,
            distortion_multiplier=zero + math.inf,
            perception_multiplier=zero.masked_fill(perception_active, math.inf),
            distortion_active=true,
            perception_active=perception_active,
            rate_active=~true,
            kkt_residual=zero,
            iterations=zero.long(),
        )

    def _perception(self, r: Tensor, plan: Tensor | None, binding: Tensor) -> Tensor:
        """Perception delta(p, r) of each r."""
        p = torch.zeros_like(self.distortion[:, 0])
        p[self.there] = self.law
        if self.measure is None:
            return torch.full_like(r[:, 0], math.nan)
        if isinstance(self.measure, TotalVariation):
            return (r - p).abs().sum(1) / 2
        if isinstance(self.measure, Divergence):
            ratio = (r / p).clamp(min=1e-300).log()
            return -(ratio @ p) if self.measure.of == "source" else (r * ratio).sum(1)
        assert self.cost is not None
        if monge(self.cost):
            return monotone_transport(p, r, self.cost)
        if plan is None or (self.law.numel() * r.shape[1] <= LARGEST_PROGRAM and not bool(binding.all())):
            return torch.stack([least_transport(p, one, self.cost) for one in r])
        return self.least_cost + self.cost_scale * (plan * self.cost_excess).sum((1, 2))

    def _given(self, target: Tensor) -> Tensor:
        """Distortion converted to the given units."""
        return self.least_distortion + self.distortion_scale * target


@dataclass(frozen=True)
class _Task:
    minimise: Literal["rate", "distortion"]
    tolerance: float
    max_iterations: int
    start: Tensor | None


def _each(solution: RDPSolution, change: Callable[[Tensor], Tensor]) -> RDPSolution:
    """Copy of a solution with a function applied to every tensor."""
    return RDPSolution(**{field.name: change(getattr(solution, field.name)) for field in fields(solution)})


def _check_converged(solution: RDPSolution, tolerance: float) -> None:
    """Raise NotConverged if a point has a residual above the tolerance."""
    wrong = ~(solution.kkt_residual <= tolerance)
    if bool(wrong.any()):
        where = [tuple(index) for index in wrong.nonzero().tolist()]
        named = ", ".join(str(index) for index in where[:NAMED]) + (" ..." if len(where) > NAMED else "")
        raise NotConverged(
            f"KKT residual {float(solution.kkt_residual[wrong].max()):.2g} after "
            f"{int(solution.iterations[wrong].max())} steps, tolerance {tolerance:g}, at points {named} of "
            f"shape {list(wrong.shape)}; move them off the border of what is possible, or allow more",
            solution,
        )


def _finite(values: Values, name: str) -> Tensor:
    found = torch.as_tensor(values, dtype=torch.float64)
    if not bool(found.isfinite().all()):
        raise InvalidOption(
            f"{name} with {int((~found.isfinite()).sum())} values that are not finite: all must be"
        )
    return found


def _reduced(law: Tensor, costs: Tensor) -> tuple[Tensor, float, float]:
    """Excess over the least cost of each row in units of its mean, the mean of the least, and the unit."""
    least = costs.amin(1)
    excess = costs - least[:, None]
    scale = float((law @ excess).mean()) or 1.0
    return excess / scale, float(law @ least), scale
