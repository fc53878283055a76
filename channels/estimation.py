"""Channel estimation from pilots: linear interpolation and Wiener filters."""

from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float
from torch import Tensor

# Below -100 dB the covariance of pilots is singular in double precision.
SMALLEST_NOISE_VAR = 1e-10


def linear_weights(
    at: Float[Tensor, "*n data"], knots: Float[Tensor, "*n pilots"]
) -> Float[Tensor, "*n data pilots"]:
    """Weights of linear interpolation between knots, constant beyond the outermost knots.

    Args:
        at: Positions of the data, [*n, data].
        knots: Positions of the pilots, ascending, [*n, pilots].

    Returns:
        Weights [*n, data, pilots], which add up to 1 over the pilots.
    """
    right = torch.searchsorted(knots.contiguous(), at.contiguous()).clamp(max=knots.shape[-1] - 1)
    left = (right - 1).clamp(min=0)
    begin, end = knots.gather(-1, left), knots.gather(-1, right)
    share = ((at - begin) / (end - begin).clamp_min(1e-9)).clamp(0.0, 1.0)[..., None]
    eye = torch.eye(knots.shape[-1], dtype=at.dtype, device=at.device)
    return (1 - share) * eye[left] + share * eye[right]


def wiener_weights(
    cross: Float[Tensor, "*n data pilots"] | Complex[Tensor, "*n data pilots"],
    covariance: Float[Tensor, "*n pilots pilots"] | Complex[Tensor, "*n pilots pilots"],
    noise_var: float,
) -> Float[Tensor, "*n data pilots"] | Complex[Tensor, "*n data pilots"]:
    """Weights of the Wiener filter, W = C_dp (C_pp + N0 I)^-1.

    Args:
        cross: C_dp = E[h_d conj(h_p)] between data and pilots, [*n, data, pilots].
        covariance: C_pp between pilots, [*n, pilots, pilots].
        noise_var: N0 of the gain seen at a pilot; values below 1e-10 count as 1e-10.

    Returns:
        Weights W, [*n, data, pilots].

    Reference:
        Kay, Fundamentals of Statistical Signal Processing: Estimation Theory, 12.5.
    """
    eye = torch.eye(covariance.shape[-1], dtype=covariance.dtype, device=covariance.device)
    noisy = covariance + max(noise_var, SMALLEST_NOISE_VAR) * eye
    return torch.linalg.solve(noisy, cross.mH).mH  # pyright: ignore


def estimation_error(
    weights: Float[Tensor, "*n data pilots"] | Complex[Tensor, "*n data pilots"],
    cross: Float[Tensor, "*n data pilots"] | Complex[Tensor, "*n data pilots"],
    covariance: Float[Tensor, "*n pilots pilots"] | Complex[Tensor, "*n pilots pilots"],
    noise_var: float,
    power: float,
) -> Float[Tensor, "*n data"]:
    """Mean square error of any linear channel estimate, per data symbol.

    E|h|^2 - 2 Re(w c^H) + w (C_pp + N0 I) w^H.

    Args:
        weights: w, from the gains seen at pilots to the gain of a data symbol, [*n, data, pilots].
        cross: c = E[h_d conj(h_p)], [*n, data, pilots].
        covariance: C_pp between pilots, [*n, pilots, pilots].
        noise_var: N0 of the gain seen at a pilot.
        power: E|h|^2 of a data symbol.

    Returns:
        Mean square error >= 0, [*n, data].
    """
    joint = (weights * cross.conj()).sum(-1).real
    spread = ((weights @ covariance) * weights.conj()).sum(-1).real
    return (power - 2 * joint + spread + noise_var * weights.abs().square().sum(-1)).clamp_min(0.0)


@dataclass(frozen=True, eq=False, slots=True)
class Taps:
    """Second moments of the gain H(s, k) = sum_l steering(k, l) g_l(s) over the OFDM symbols s of a slot.

    Args:
        steering: Amplitude and phase of each tap on each subcarrier, complex [subcarriers, taps].
        in_time: E[g_l(s) conj(g_l(t))] between OFDM symbols, complex [taps, symbols, symbols]; taps are
            independent.
    """

    steering: Complex[Tensor, "subcarriers taps"]
    in_time: Complex[Tensor, "taps symbols symbols"]

    def to(self, device: torch.device) -> "Taps":
        """Copy these moments to another device.

        Args:
            device: The device.

        Returns:
            Equal moments on that device.
        """
        return Taps(self.steering.to(device), self.in_time.to(device))

    @property
    def power(self) -> Float[Tensor, " subcarriers"]:
        """Average power E|H|^2 of every subcarrier, [subcarriers]."""
        return self.steering.abs().square() @ self.in_time[:, 0, 0].real


def wiener_gains(
    seen: Complex[Tensor, "batch slots rows pilots"],
    taps: Taps,
    rows: list[int],
    every: int,
    noise_var: float,
) -> tuple[Complex[Tensor, "batch slots symbols subcarriers"], Float[Tensor, "symbols subcarriers"]]:
    """Linear minimum mean square error estimate of the gains of a slot, and its error.

    With g = F z, z ~ CN(0, I), F F^H = C over taps and OFDM symbols, pilots = A g + noise and H = B g, the
    Wiener filter B C A^H (A C A^H + N0 I)^-1 equals B F (F^H A^H A F + N0 I)^-1 F^H A^H, and its error is N0
    B F (F^H A^H A F + N0 I)^-1 F^H B^H. This form does not cancel at high SNR, and its linear system has the
    rank of F instead of the number of pilots.

    Args:
        seen: Least-squares gains at the pilots, complex [batch, slots, rows, pilots].
        taps: Second moments of the gain.
        rows: OFDM symbols of a slot that carry pilots.
        every: Distance of the pilots in subcarriers.
        noise_var: N0 of the gain seen at a pilot; values below 1e-10 count as 1e-10.

    Returns:
        Gains [batch, slots, symbols, subcarriers], and mean square error [symbols, subcarriers].
    """
    at_pilots = taps.steering[::every]
    gram = at_pilots.mH @ at_pilots
    root = _square_roots(taps.in_time)
    at_rows = root[:, rows]
    ways = root.shape[2]
    size = len(gram) * ways
    eye = torch.eye(size, dtype=gram.dtype, device=gram.device)
    system = torch.einsum("lm,ltr,mtq->lrmq", gram, at_rows.conj(), at_rows).reshape(size, size)
    noise_var = max(noise_var, SMALLEST_NOISE_VAR)
    inverse = _inverse(system + noise_var * eye).reshape(len(gram), ways, len(gram), ways)
    z = torch.einsum("lrmq,mtq,bntm->bnlr", inverse, at_rows.conj(), seen.to(gram) @ at_pilots.conj())
    g = torch.einsum("lsr,bnlr->bnsl", root, z)
    left = torch.einsum("lsr,lrmq,msq->slm", root, inverse, root.conj())
    error = noise_var * torch.einsum("kl,slm,km->sk", taps.steering, left, taps.steering.conj()).real
    return g @ taps.steering.mT, error.clamp_min(0.0)


def linear_gains(
    seen: Complex[Tensor, "batch slots rows pilots"],
    taps: Taps,
    rows: list[int],
    every: int,
    noise_var: float,
) -> tuple[Complex[Tensor, "batch slots symbols subcarriers"], Float[Tensor, "symbols subcarriers"]]:
    """Linear interpolation of the gain of a slot in time and in frequency, and its mean square error.

    Args:
        seen: Least-squares gains at the pilots, complex [batch, slots, rows, pilots].
        taps: Second moments of the gain, for the error.
        rows: OFDM symbols of a slot that carry pilots.
        every: Distance of the pilots in subcarriers.
        noise_var: N0 of the gain seen at a pilot.

    Returns:
        Gains [batch, slots, symbols, subcarriers], and mean square error [symbols, subcarriers].
    """
    device, at_pilots = seen.device, taps.steering[::every]
    k = torch.arange(len(taps.steering), dtype=torch.float64, device=device)
    s = torch.arange(taps.in_time.shape[1], dtype=torch.float64, device=device)
    in_frequency = linear_weights(k, k[::every]).to(at_pilots)
    in_time = linear_weights(s, s[rows]).to(at_pilots)
    across = taps.in_time[:, :, rows]
    steering = in_frequency @ at_pilots
    joint = torch.einsum("st,lst,kl->sk", in_time, across.conj(), steering * taps.steering.conj()).real
    among = torch.einsum(
        "st,ltu,su,kl->sk", in_time, across[:, rows], in_time, steering.abs().square() + 0j
    ).real
    spread = torch.outer(in_time.abs().square().sum(1), in_frequency.abs().square().sum(1))
    gains = in_time @ seen.to(at_pilots) @ in_frequency.mT
    return gains, (taps.power - 2 * joint + among + noise_var * spread).clamp_min(0.0)


def _square_roots(covariance: Tensor) -> Tensor:
    """Factor F [taps, symbols, modes] with F F^H = C; modes without power in any tap are left out."""
    power, ways = torch.linalg.eigh(covariance)  # pyright: ignore
    kept = power.amax(0) > 1e-15 * power.max()  # pyright: ignore
    return (ways * power.clamp_min(0.0).sqrt()[:, None])[..., kept]  # pyright: ignore


def _inverse(matrix: Tensor) -> Tensor:
    return torch.linalg.inv(matrix)  # pyright: ignore
