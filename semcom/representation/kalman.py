"""Prediction of latents in motion: laws of extrapolation, and the constant-velocity Kalman filter.

A latent value moves by z_{t+1} = z_t + v_t, with a velocity of damping phi,

    v_{t+1} = phi v_t + a,   a ~ N(0, q),      y_t = z_t + n,   n ~ N(0, r)

phi = 1 is the constant-velocity model; phi = c, the cosine of successive steps, that of steps which forget
their direction at that rate. All values of a latent have the same model and are filtered alike.

Reference:
    Bar-Shalom, Li and Kirubarajan, "Estimation with applications to tracking and navigation", Wiley 2001, 6.3
    and 6.5, for the model, its gains and the alpha-beta filter.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from semcom.errors import InvalidOption

FINE = 128
"""Denominator of the gains of `AlphaBeta`."""
LIMIT = 1 << 24
"""Largest magnitude of the state of `AlphaBeta` in units."""
LEAST_VARIANCE = 1e-12
MOST_STEPS, SETTLED = 20_000, 1e-12
"""Largest number of steps to the steady state of the filter, and the relative change that ends them."""

Latents = Float[np.ndarray, "length values"]


def extrapolation_error(
    speed: float | np.ndarray, ratio: float | np.ndarray, cosine: float | np.ndarray
) -> float | np.ndarray:
    """Squared error of linear extrapolation, |v|^2 [(r - 1)^2 + 2 r (1 - c)].

    Args:
        speed: Length |v| of the last step, at least 0.
        ratio: Length r of the next step as a multiple of the last one, at least 0.
        cosine: Cosine c of the angle between the two steps, -1 to 1.

    Returns:
        |z_{t+1} - (2 z_t - z_{t-1})|^2.

    Example:
        >>> extrapolation_error(2.0, 1.0, 0.5)
        4.0
    """
    return speed**2 * ((ratio - 1) ** 2 + 2 * ratio * (1 - cosine))


def prediction_gain(ratio: float, cosine: float) -> float:
    """Squared error of repetition over that of linear extrapolation, r^2 / [(r - 1)^2 + 2 r (1 - c)].

    Args:
        ratio: Length r of the next step as a multiple of the last one, at least 0.
        cosine: Cosine c of the angle between the two steps.

    Returns:
        Linear gain; 1 / (2 (1 - c)) for r = 1, infinite if the extrapolation is exact.

    Example:
        >>> round(10 * math.log10(prediction_gain(1.0, 0.9)), 2)
        6.99
    """
    error = float(extrapolation_error(1.0, ratio, cosine))
    return ratio**2 / error if error else math.inf


def saved_bits(gain: float) -> float:
    """Bits per value that differential coding saves at high rate, log2(gain) / 2.

    Args:
        gain: Ratio of the variances of what is coded without and with prediction, above 0.

    Returns:
        Bits; negative if prediction makes things worse.
    """
    return math.log2(gain) / 2


def crossover_noise_var(speed: float, cosine: float, dims: int) -> float:
    """Noise variance at which repetition and linear extrapolation have equal errors, at constant speed.

    Extrapolation from noisy latents has the error 2 |v|^2 (1 - c) + 5 d sigma^2, repetition |v|^2 + d
    sigma^2; they are equal at |v|^2 (2 c - 1) = 4 d sigma^2.

    Args:
        speed: Length |v| of a step.
        cosine: Cosine c of successive steps.
        dims: Number d of dimensions, at least 1.

    Returns:
        sigma^2 per dimension; 0 if repetition is better at any noise.
    """
    return speed**2 * max(2 * cosine - 1, 0.0) / (4 * dims)


@dataclass(frozen=True, slots=True)
class Motion:
    """Model of the motion of latent values.

    Args:
        acceleration_var: Variance q of the change of velocity per frame, at least 0.
        damping: Factor phi of the velocity from one frame to the next, 0 to 1.
        velocity_var: Variance of the velocity before anything was received, at least 0.
        position_var: Variance of the position before anything was received, at least 0.

    Raises:
        InvalidOption: A number is out of range or not finite.
    """

    acceleration_var: float
    damping: float = 1.0
    velocity_var: float = 1.0
    position_var: float = 1.0

    def __post_init__(self) -> None:
        for name in ("acceleration_var", "velocity_var", "position_var"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise InvalidOption(f"{name} of {value}: give a finite number, at least 0")
        if not 0 <= self.damping <= 1:
            raise InvalidOption(f"damping of {self.damping}: choose 0 to 1")


def measured_motion(z: Latents) -> Motion:
    """Estimate the model of motion of a trajectory by least squares over all values.

    Args:
        z: Latents, [length, values]; of one or two frames no change of velocity is known, and it is taken to
            be as large as the velocity.

    Returns:
        The model; without motion its variances are 0 and its damping is 1.
    """
    z = np.asarray(z, np.float64)
    v = np.diff(z, axis=0)
    position = float(np.square(z).mean())
    velocity = float(np.square(v).mean()) if len(v) else position
    if len(v) < 2:
        return Motion(velocity, 1.0, velocity, position)
    power = float(np.square(v[:-1]).sum())
    damping = min(max(float((v[1:] * v[:-1]).sum()) / power, 0.0), 1.0) if power > LEAST_VARIANCE else 1.0
    return Motion(float(np.square(v[1:] - damping * v[:-1]).mean()), damping, velocity, position)


@dataclass(frozen=True, eq=False, slots=True)
class Filtered:
    """Output of the Kalman filter at every time.

    Args:
        predicted: Prediction of each value from what arrived before, [length, values].
        predicted_var: Expected squared error of the predictions, [length, values].
        estimated: Estimate of each value from what has arrived so far, [length, values].
        estimated_var: Expected squared error of the estimates, [length, values].
    """

    predicted: Latents
    predicted_var: Latents
    estimated: Latents
    estimated_var: Latents


def kalman(y: Latents, noise_var: Latents, motion: Motion) -> Filtered:
    """Filter noisy measurements of latents by the model of their motion.

    Args:
        y: Measurements, [length, values]; ignored where the noise is infinite.
        noise_var: Variance of the noise in each of them, at least 0; infinite where nothing arrived.
        motion: Model of the motion.

    Returns:
        Predictions and estimates with their variances.
    """
    length, values = y.shape
    position, velocity = np.zeros(values), np.zeros(values)
    p = np.full(values, motion.position_var)  # covariance of position and velocity
    c, s = np.zeros(values), np.full(values, motion.velocity_var)
    found = Filtered(*(np.zeros((length, values)) for _ in range(4)))
    phi = motion.damping
    for t in range(length):
        if t:
            # the step v_{t-1} leads from z_{t-1} to z_t, and has changed by then
            velocity = phi * velocity
            c, s = phi * c, phi**2 * s + motion.acceleration_var
            position = position + velocity
            p, c = p + 2 * c + s, c + s
        found.predicted[t], found.predicted_var[t] = position, p
        gain = 1 / np.maximum(p + noise_var[t], LEAST_VARIANCE)
        error = np.where(np.isfinite(noise_var[t]), y[t] - position, 0.0)
        k_position, k_velocity = p * gain, c * gain
        position, velocity = position + k_position * error, velocity + k_velocity * error
        s = s - k_velocity * c
        p, c = p - k_position * p, c - k_position * c
        found.estimated[t], found.estimated_var[t] = position, p
    return found


def steady_gains(motion: Motion, noise_var: float) -> tuple[float, float]:
    """Gains of position and velocity to which the Kalman filter converges, by iteration.

    Args:
        motion: Model of the motion.
        noise_var: Variance of the measurements, at least 0.

    Returns:
        alpha and beta, 0 to 1; both 1 without noise, both 0 with noise and without any acceleration.
    """
    q, phi = motion.acceleration_var, motion.damping
    if noise_var <= LEAST_VARIANCE:
        return 1.0, 1.0
    if q <= LEAST_VARIANCE * noise_var:
        return 0.0, 0.0
    p, c, s = noise_var + q, q, q
    alpha = beta = 0.0
    for _ in range(MOST_STEPS):
        c, s = phi * c, phi**2 * s + q
        p, c = p + 2 * c + s, c + s
        before, (alpha, beta) = (alpha, beta), (p / (p + noise_var), c / (p + noise_var))
        if abs(alpha - before[0]) <= SETTLED * alpha and abs(beta - before[1]) <= SETTLED * beta:
            break
        s = s - beta * c
        p, c = p - alpha * p, c - alpha * c
    return alpha, beta


@dataclass(frozen=True, slots=True)
class AlphaBeta:
    """Predictor of decoded latents with constant gains, in integers, equal at both ends of a link.

        prediction = p + phi v;   e = decoded - prediction;   p = prediction + alpha e;   v = phi v + beta e

    Three sets of gains are (0, 0, 0), which always predicts 0; (1, 0, 0), the last value; (1, 1, 1), linear
    extrapolation. In between lie the steady states of the Kalman filter. Gains are fractions of 128.

    Args:
        alpha: 128 times the gain of the position, 0 to 128.
        beta: 128 times the gain of the velocity, 0 to 128.
        damping: 128 times the damping of the velocity, 0 to 128.

    Raises:
        InvalidOption: A gain is out of range.
    """

    alpha: int
    beta: int
    damping: int

    def __post_init__(self) -> None:
        for name in ("alpha", "beta", "damping"):
            value = getattr(self, name)
            if not 0 <= value <= FINE:
                raise InvalidOption(f"{name} of {value}/{FINE}: choose 0 to {FINE}")

    @classmethod
    def steady(cls, motion: Motion, noise_var: float) -> "AlphaBeta":
        """Predictor with the gains of the Kalman filter in its steady state, rounded.

        Args:
            motion: Model of the motion.
            noise_var: Variance of the error of decoded latents.

        Returns:
            The predictor.
        """
        alpha, beta = steady_gains(motion, noise_var)
        return cls(*(round(FINE * min(max(value, 0.0), 1.0)) for value in (alpha, beta, motion.damping)))

    def start(self, values: int) -> "State":
        """State before the first frame: position and velocity 0.

        Args:
            values: Number of latent values.

        Returns:
            The state.
        """
        return State(np.zeros(values, np.int64), np.zeros(values, np.int64))

    def predicted(self, state: "State") -> Int[np.ndarray, " values"]:
        """Prediction of the next decoded latents.

        Args:
            state: State after the last frame.

        Returns:
            Latents in units.
        """
        return _limited(state.position + _share(self.damping, state.velocity))

    def updated(self, state: "State", decoded: Int[np.ndarray, " values"], first: bool) -> "State":
        """State after a frame.

        Args:
            state: State after the frame before.
            decoded: Decoded latents in units.
            first: Whether nothing was decoded before: the position is then the decoded one, the velocity 0.

        Returns:
            The state.
        """
        if first:
            return State(decoded if self.alpha else np.zeros_like(decoded), np.zeros_like(decoded))
        predicted = self.predicted(state)
        error = decoded - predicted
        position = predicted + _share(self.alpha, error)
        velocity = _share(self.damping, state.velocity) + _share(self.beta, error)
        return State(_limited(position), _limited(velocity)) if self.alpha else state


@dataclass(frozen=True, eq=False, slots=True)
class State:
    """State of `AlphaBeta` in units of latents.

    Args:
        position: Estimate of the last latents, [values].
        velocity: Estimate of their last step, [values].
    """

    position: Int[np.ndarray, " values"]
    velocity: Int[np.ndarray, " values"]


def _share(gain: int, values: Int[np.ndarray, " values"]) -> Int[np.ndarray, " values"]:
    """Multiply by gain / 128: whole numbers, rounded to the nearest one, halves up."""
    return (gain * values + FINE // 2) // FINE


def _limited(values: Int[np.ndarray, " values"]) -> Int[np.ndarray, " values"]:
    return np.clip(values, -LIMIT, LIMIT)
