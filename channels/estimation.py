"""Channel estimation from pilots: linear interpolation and Wiener filters."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

# Below -100 dB the covariance of pilots is singular in double precision.
SMALLEST_NOISE_VAR = 1e-10

# Number of pilots used by the Wiener filter, half of them on each side; more would hardly lower the error.
WINDOW = 8


@dataclass(frozen=True)
class PilotLayout:
    """Pilots of a single carrier: one before every `spacing` data symbols, and one after the last.

    Args:
        spacing: Data symbols between two pilots, at least 1.
    """

    spacing: int

    def pilots(self, uses: int) -> int:
        """Number of pilots for a number of data symbols.

        Args:
            uses: Data symbols, at least 0.

        Returns:
            Pilots; none without data.
        """
        return math.ceil(uses / self.spacing) + 1 if uses else 0

    def data_uses(self, total: int) -> int:
        """Largest number of data symbols that fits beside its pilots.

        Args:
            total: Channel uses available.

        Returns:
            Data symbols, at least 0.
        """
        whole, rest = divmod(max(total - 1, 0), self.spacing + 1)
        return whole * self.spacing + max(rest - 1, 0)

    def places(self, uses: int, device: torch.device) -> tuple[Int[Tensor, " uses"], Int[Tensor, " pilots"]]:
        """Channel uses that carry data, and those that carry pilots.

        Args:
            uses: Data symbols, at least 0.
            device: Device of the result.

        Returns:
            Ascending indices of data [uses] and of pilots [pilots].
        """
        index = torch.arange(uses, device=device)
        total = uses + self.pilots(uses)
        pilot = torch.arange(0, total, self.spacing + 1, device=device)
        if uses and uses % self.spacing:
            pilot = torch.cat((pilot, pilot.new_tensor([total - 1])))
        return index + index // self.spacing + 1, pilot


def insert_pilots(
    x: Complex[Tensor, "batch uses"], data: Int[Tensor, " uses"], pilots: int
) -> Complex[Tensor, "batch total"]:
    """Put data symbols between pilots of value 1.

    Args:
        x: Data symbols, complex [batch, uses].
        data: Where they go, [uses].
        pilots: Number of pilots.

    Returns:
        Symbols to send, complex [batch, uses + pilots].
    """
    symbols = torch.ones(x.shape[0], x.shape[1] + pilots, dtype=x.dtype, device=x.device)
    return symbols.index_copy(1, data, x)


def interpolate_gains(
    seen: Complex[Tensor, "batch pilots"],
    noise_var: Float[Tensor, "batch pilots"],
    data: Int[Tensor, " uses"],
    pilot: Int[Tensor, " pilots"],
    correlation: Callable[[Int[Tensor, "..."], Int[Tensor, "..."]], Tensor],
    interpolation: str = "wiener",
) -> tuple[Complex[Tensor, "batch uses"], Float[Tensor, "batch uses"]]:
    """Estimate the gains of data symbols from the gains seen at pilots around them.

    "wiener" is the linear minimum mean square error estimate from the 8 nearest pilots, "linear" the straight
    line between two pilots.

    Args:
        seen: Gain seen at each pilot, complex [batch, pilots].
        noise_var: Noise variance of each gain seen, [batch, pilots].
        data: Channel uses of the data as `PilotLayout` places them, at least one, [uses].
        pilot: Channel uses of the pilots, [pilots].
        correlation: Autocorrelation of the gain between channel uses.
        interpolation: "wiener" or "linear".

    Returns:
        Estimated gains, complex [batch, uses], and their mean square errors, [batch, uses].
    """
    uses, segments = len(data), len(pilot) - 1
    data, pilot = data.cpu(), pilot.cpu()
    variances, item = _distinct(noise_var.cpu().double())
    window = min(WINDOW if interpolation == "wiener" else 2, len(pilot))
    first = (torch.arange(segments) - window // 2 + 1).clamp(0, len(pilot) - window)
    chosen = first[:, None] + torch.arange(window)  # [segments, window]
    spacing = int(pilot[1] - pilot[0]) - 1
    places = torch.nn.functional.pad(data, (0, segments * spacing - uses), value=int(data[-1]))
    places = places.reshape(segments, spacing)
    near = pilot[chosen]
    cross = correlation(places[:, :, None], near[:, None, :])
    covariance = correlation(near[:, :, None], near[:, None, :])
    power = float(correlation(data[:1], data[:1]).real)
    h = torch.empty(seen.shape[0], uses, dtype=seen.dtype, device=seen.device)
    error = torch.empty_like(h.real)
    for row, variance in enumerate(variances):
        noise = variance[chosen]
        if interpolation == "wiener":
            weights = wiener_weights(cross, covariance, noise)
        else:
            weights = linear_weights(places.double(), near.double()).to(cross)
        items = (item == row).nonzero().flatten().to(seen.device)
        around = seen[items][:, chosen.to(seen.device)]  # [items, segments, window]
        h[items] = torch.einsum("bsw,sdw->bsd", around, weights.to(seen)).flatten(1)[:, :uses]
        missed = estimation_error(weights, cross, covariance, noise, power)
        error[items] = missed.flatten()[:uses].to(error)
    return h, error


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
    noise_var: Float[Tensor, "*n pilots"],
) -> Float[Tensor, "*n data pilots"] | Complex[Tensor, "*n data pilots"]:
    """Weights of the Wiener filter, W = C_dp (C_pp + diag N0)^-1.

    Args:
        cross: C_dp = E[h_d conj(h_p)] between data and pilots, [*n, data, pilots].
        covariance: C_pp between pilots, [*n, pilots, pilots].
        noise_var: N0 of the gain seen at each pilot, [*n, pilots]; values below 1e-10 count as 1e-10.

    Returns:
        Weights W, [*n, data, pilots].

    Reference:
        Kay, Fundamentals of Statistical Signal Processing: Estimation Theory, 12.5.
    """
    noisy = covariance + noise_var.clamp_min(SMALLEST_NOISE_VAR).to(covariance).diag_embed()
    return torch.linalg.solve(noisy, cross.mH).mH  # pyright: ignore


def estimation_error(
    weights: Float[Tensor, "*n data pilots"] | Complex[Tensor, "*n data pilots"],
    cross: Float[Tensor, "*n data pilots"] | Complex[Tensor, "*n data pilots"],
    covariance: Float[Tensor, "*n pilots pilots"] | Complex[Tensor, "*n pilots pilots"],
    noise_var: Float[Tensor, "*n pilots"],
    power: float,
) -> Float[Tensor, "*n data"]:
    """Mean square error of any linear channel estimate, per data symbol.

    E|h|^2 - 2 Re(w c^H) + w (C_pp + diag N0) w^H.

    Args:
        weights: w, from the gains seen at pilots to the gain of a data symbol, [*n, data, pilots].
        cross: c = E[h_d conj(h_p)], [*n, data, pilots].
        covariance: C_pp between pilots, [*n, pilots, pilots].
        noise_var: N0 of the gain seen at each pilot, [*n, pilots].
        power: E|h|^2 of a data symbol.

    Returns:
        Mean square error >= 0, [*n, data].
    """
    joint = (weights * cross.conj()).sum(-1).real
    spread = ((weights @ covariance) * weights.conj()).sum(-1).real
    noise = (noise_var[..., None, :] * weights.abs().square()).sum(-1)
    return (power - 2 * joint + spread + noise).clamp_min(0.0)


@dataclass(frozen=True, slots=True)
class Comb:
    """Pilots of a slot at equal distances in frequency.

    Args:
        rows: OFDM symbols of a slot that carry these pilots.
        every: Distance of the pilots in subcarriers, from the lowest on.
    """

    rows: tuple[int, ...]
    every: int


@dataclass(frozen=True, eq=False, slots=True)
class Taps:
    """Second moments of the gain H(s, k) = sum_l steering(k, l) g_l(s) over the OFDM symbols s of a slot.

    Args:
        steering: Amplitude and phase on each subcarrier of each tap, or of uncorrelated mixtures of taps that
            move alike, complex [subcarriers, taps].
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
    seen: Sequence[Complex[Tensor, "batch slots _ _"]],
    taps: Taps,
    combs: Sequence[Comb],
    noise_var: Float[Tensor, " batch"],
) -> tuple[Complex[Tensor, "batch slots symbols subcarriers"], Float[Tensor, "batch symbols subcarriers"]]:
    """Linear minimum mean square error estimate of the gains of a slot, and its error.

    With g = F z, z ~ CN(0, I), F F^H = C over taps and OFDM symbols, pilots = A g + noise and H = B g, the
    Wiener filter B C A^H (A C A^H + N0 I)^-1 equals B F (F^H A^H A F + N0 I)^-1 F^H A^H, and its error is N0
    B F (F^H A^H A F + N0 I)^-1 F^H B^H. This form does not cancel at high SNR, and its linear system has the
    rank of F instead of the number of pilots. Its eigenvectors serve for every N0.

    Args:
        seen: Least-squares gains at the pilots of each comb, complex [batch, slots, rows, pilots].
        taps: Second moments of the gain.
        combs: Combs of pilots in different OFDM symbols.
        noise_var: N0 of the gain seen at a pilot, [batch]; values below 1e-10 count as 1e-10.

    Returns:
        Gains [batch, slots, symbols, subcarriers], and mean square error [batch, symbols, subcarriers].
    """
    root = _square_roots(taps.in_time)
    count, ways = root.shape[0], root.shape[2]
    system = torch.zeros(count * ways, count * ways, dtype=root.dtype, device=root.device)
    heard = torch.zeros(*seen[0].shape[:2], count, ways, dtype=root.dtype, device=root.device)
    for comb, pilots in zip(combs, seen, strict=True):
        at_pilots, at_rows = taps.steering[:: comb.every], root[:, list(comb.rows)]
        gram = at_pilots.mH @ at_pilots
        part = torch.einsum("lm,ltr,mtq->lrmq", gram, at_rows.conj(), at_rows)
        system = system + part.reshape(count * ways, count * ways)
        heard = heard + torch.einsum("mtq,bntm->bnmq", at_rows.conj(), pilots.to(root) @ at_pilots.conj())
    power, modes = _eigen(system)
    noise = noise_var.to(power).clamp_min(SMALLEST_NOISE_VAR)[:, None]
    known = 1 / (power.clamp_min(0.0) + noise)  # [batch, modes]
    z = (heard.flatten(2) @ modes.conj() * known[:, None]) @ modes.mT
    g = torch.einsum("lsr,bnlr->bnsl", root, z.unflatten(2, (count, ways)))
    shapes = torch.einsum("lsr,lrq->slq", root, modes.unflatten(0, (count, ways)))
    shapes = torch.einsum("kl,slq->skq", taps.steering, shapes).abs().square()
    return g @ taps.steering.mT, torch.einsum("skq,bq->bsk", shapes, noise * known)


def linear_gains(
    seen: Complex[Tensor, "batch slots rows pilots"],
    taps: Taps,
    comb: Comb,
    noise_var: Float[Tensor, " batch"],
) -> tuple[Complex[Tensor, "batch slots symbols subcarriers"], Float[Tensor, "batch symbols subcarriers"]]:
    """Linear interpolation of the gain of a slot in time and in frequency, and its mean square error.

    Args:
        seen: Least-squares gains at the pilots, complex [batch, slots, rows, pilots].
        taps: Second moments of the gain, for the error.
        comb: The pilots.
        noise_var: N0 of the gain seen at a pilot, [batch].

    Returns:
        Gains [batch, slots, symbols, subcarriers], and mean square error [batch, symbols, subcarriers].
    """
    device, at_pilots, rows, every = seen.device, taps.steering[:: comb.every], list(comb.rows), comb.every
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
    noise = noise_var.to(spread)[:, None, None] * spread
    return gains, (taps.power - 2 * joint + among + noise).clamp_min(0.0)


def _distinct(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Distinct rows, and which of them each row is."""
    distinct, which = rows.unique(dim=0, return_inverse=True)  # pyright: ignore
    return distinct, which  # pyright: ignore


def _square_roots(covariance: Tensor) -> Tensor:
    """Factor F [taps, symbols, modes] with F F^H = C; modes without power in any tap are left out."""
    power, ways = _eigen(covariance)
    kept = power.amax(0) > 1e-15 * power.max()  # pyright: ignore
    return (ways * power.clamp_min(0.0).sqrt()[:, None])[..., kept]  # pyright: ignore


def _eigen(matrix: Tensor) -> tuple[Tensor, Tensor]:
    return torch.linalg.eigh(matrix)  # pyright: ignore
