"""Random sources for tests of rate-distortion-perception functions and for their golden values."""

import torch

from semcom.theory.rdp import Divergence, Perception, TotalVariation, Transport


def random_source(seed: int, at_most: int) -> tuple[torch.Tensor, torch.Tensor, Perception, float]:
    """A law, a distortion, one of six kinds of measure, and the least perception."""
    g = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=g, dtype=torch.float64)

    m = int(torch.randint(2, at_most + 1, (1,), generator=g))
    p = -draw(m).log()
    p = p / p.sum()
    if seed % 6 == 0:
        n = int(torch.randint(2, at_most + 1, (1,), generator=g))
        cost = draw(m, n)
        return p, draw(m, n), Transport(cost), float(p @ cost.amin(1))
    d = draw(m, m).fill_diagonal_(0)
    letters = torch.arange(m, dtype=torch.float64)
    places = draw(m, 2)
    apart = ((places[:, None] - places) ** 2).sum(2)
    if seed % 6 == 2:
        d = apart
    measures: list[Perception] = [
        Transport((letters[:, None] - letters).abs()),
        Transport(apart.sqrt()),
        TotalVariation(),
        Divergence("source"),
        Divergence("reproduction"),
    ]
    return p, d, measures[seed % 6 - 1], 0.0
