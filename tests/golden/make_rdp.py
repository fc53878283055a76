"""R(D, P) of small random sources by cvxpy and Clarabel, exponential cones: python tests/golden/make_rdp.py

Needs cvxpy and clarabel beside what the package needs. Writes rdp.json; test_rdp.py compares to 1e-5.
"""

import json
import sys
from pathlib import Path

import cvxpy as cp
import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from rdp_sources import random_source  # noqa: E402

from semcom.theory.rdp import Divergence, TotalVariation, Transport  # noqa: E402

SEEDS, AT_MOST = 24, 7
SHARES = ((0.3, 0.1), (0.6, 0.5))  # of the way from the least to the free distortion and perception


def reference(p: np.ndarray, d: np.ndarray, measure: object, bound: float, perception: float) -> float:
    """The least mutual information, in nats."""
    joint = cp.Variable(d.shape, nonneg=True)
    r = cp.sum(joint, axis=0)
    independent = cp.multiply(p[:, None], np.ones((len(p), 1)) @ cp.reshape(r, (1, d.shape[1]), order="C"))
    constraints = [cp.sum(joint, axis=1) == p, cp.sum(cp.multiply(joint, d)) <= bound]
    if isinstance(measure, Transport):
        plan = cp.Variable(d.shape, nonneg=True)
        constraints += [cp.sum(plan, axis=1) == p, cp.sum(plan, axis=0) == r]
        constraints += [cp.sum(cp.multiply(plan, np.asarray(measure.cost))) <= perception]
    elif isinstance(measure, TotalVariation):
        constraints += [cp.norm1(p - r) / 2 <= perception]
    elif isinstance(measure, Divergence):
        between = cp.kl_div(p, r) if measure.of == "source" else cp.kl_div(r, p)
        constraints += [cp.sum(between) <= perception]
    problem = cp.Problem(cp.Minimize(cp.sum(cp.kl_div(joint, independent))), constraints)
    problem.solve(solver=cp.CLARABEL, tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10)
    return float(problem.value) if problem.status == "optimal" else float("nan")


def main() -> None:
    cases = []
    for seed in range(SEEDS):
        source, distortion, measure, floor = random_source(seed, AT_MOST)
        p, d = source.numpy(), distortion.numpy()
        least, free = float(p @ d.min(1)), float((p @ d).min())
        for of_distortion, of_perception in SHARES:
            bound = least + of_distortion * (free - least)
            perception = floor + 0.3 * of_perception
            value = reference(p, d, measure, bound, perception)
            if np.isfinite(value):
                case = {"seed": seed, "at_most": AT_MOST, "distortion": bound, "perception": perception}
                cases.append(case | {"rate_nats": value})
    about = {"cvxpy": cp.__version__, "solver": "CLARABEL"}
    (HERE / "rdp.json").write_text(json.dumps({"about": about, "cases": cases}, indent=1) + "\n")
    print(f"{len(cases)} of {SEEDS * len(SHARES)} cases")


if __name__ == "__main__":
    main()
