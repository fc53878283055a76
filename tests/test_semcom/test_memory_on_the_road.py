"""Memories as schemes: names, the receiver over channels, residual coding, the command line."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from instances import A_MEMORY
from PIL import Image as PillowImage
from torch import Tensor

import semcom
from channels import AWGN, NamedStreams, transmit
from semcom import names, send
from semcom.cli import main
from semcom.codecs import Avif, Memo, StreamCodec, fit
from semcom.columns import DECISIONS
from semcom.data import load
from semcom.errors import BudgetTooSmall, CorruptPayload, InvalidOption, InvalidSource, UnknownName
from semcom.memory.codebooks import PictureMemory, pictures_of
from semcom.memory.codec import MemoryCodec, check_of, kind_of_payload
from semcom.memory.gate import Decision, Gate
from semcom.metrics import PSNR
from semcom.modalities import TEXT, VIDEO
from semcom.modalities.image import to_pixels
from semcom.names.descriptions import described
from semcom.observation import Observation
from semcom.receivers.memory import Comparison, MemoryReceiver
from semcom.results import ResultStore
from semcom.summary import RECORDS, keep_originals, report, table
from semcom.sweep import Sweep, run
from semcom.transmission import Transmission

SIDE = 48


def pictures(count: int, seed: int = 0) -> tuple[Tensor, ...]:
    """Smooth random pictures in steps of 1/255."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, SIDE // 8, SIDE // 8, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(SIDE, SIDE), mode="bilinear")
    return tuple((255 * smooth[i : i + 1]).round() / 255 for i in range(count))


STORED = PictureMemory(pictures(5), "stored")
OTHERS = pictures(5, seed=1)
SHAPE = (1, 3, SIDE, SIDE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The stored pictures as files, and a picture that is none of them."""
    place = tmp_path / "stored"
    place.mkdir()
    for number, picture in enumerate(STORED.pictures):
        PillowImage.fromarray(to_pixels(picture)).save(place / f"{number}.png")
    PillowImage.fromarray(to_pixels(OTHERS[0])).save(tmp_path / "other.png")
    return place


def observed(transmission: Transmission, x: Tensor, snr_db: float, seed: int) -> Observation:
    sent = transmission.send(x.clone(), 1500, None)
    received = transmit(AWGN(), sent.symbols, snr_db, NamedStreams(seed, ("channel",)))
    (found,) = transmission.receive(received, SHAPE, 1500)
    return found


def compared(receiver: MemoryReceiver, found: Observation) -> Comparison:
    comparison = receiver.compare(found, SHAPE)
    assert comparison is not None
    return comparison


@pytest.mark.parametrize("name", ["softcast", "deepjscc"])
@pytest.mark.parametrize("snr_db", [0.0, 10.0])
def test_the_energy_of_a_stored_picture_is_that_of_the_noise(name: str, snr_db: float) -> None:
    """|y - A rho|^2 is chi-squared with N degrees of freedom; of other pictures it is larger by about S."""
    transmission, receiver = names.scheme(name).transmission, MemoryReceiver(STORED)
    assert isinstance(transmission, Transmission)
    deviations = []
    for seed, (stored, other) in enumerate(zip(STORED.pictures, OTHERS, strict=True)):
        found = compared(receiver, observed(transmission, stored, snr_db, seed))
        assert int(found.energies.argmin()) == seed
        deviations.append((float(found.energies[seed]) - found.values) / math.sqrt(2 * found.values))
        assert found.decision(Gate()) is Decision.RETRIEVE
        novel = compared(receiver, observed(transmission, other, snr_db, seed))
        assert novel.decision(Gate()) is not Decision.RETRIEVE
    assert max(map(abs, deviations)) < 4.5  # of 5 normal variables, each beyond it once in 150 000
    assert abs(sum(deviations)) / math.sqrt(5) < 4.5


def test_a_recalled_picture_is_the_posterior_mean() -> None:
    """At an SNR where two stored pictures share the probability, against Bayes' rule on the energies."""
    near = (STORED.pictures[0] + 0.004).clamp(0, 1)
    memory = PictureMemory((STORED.pictures[0], near), "two")
    receiver = MemoryReceiver(memory, gate=None)
    transmission = names.scheme("softcast").transmission
    assert isinstance(transmission, Transmission)
    found = observed(transmission, near, 5.0, 0)
    energies = compared(receiver, found).energies.tolist()
    share = 1 / (1 + math.exp((energies[1] - energies[0]) / 2))
    assert 0.01 < share < 0.99
    expected = (1 - share) * memory.pictures[0].double() + share * memory.pictures[1].double()
    shown = receiver(found, SHAPE, NamedStreams(0, ("receiver",)))
    assert shown is not None
    assert (shown - expected).abs().max() < 2e-7  # rounding of single precision


def test_what_is_not_stored_is_shown_as_decoded() -> None:
    transmission = names.scheme("softcast").transmission
    assert isinstance(transmission, Transmission)
    found = observed(transmission, OTHERS[0], 10.0, 0)
    rng = NamedStreams(0, ("receiver",))
    shown = MemoryReceiver(STORED)(found, SHAPE, rng)
    assert shown is found.shown
    always = MemoryReceiver(STORED, None)(found, SHAPE, rng)
    assert always is not None
    assert min(float((always - stored).abs().max()) for stored in STORED.pictures) < 1e-6
    smaller = MemoryReceiver(A_MEMORY)(found, SHAPE, rng)  # no stored picture has this size
    assert smaller is found.shown
    assert MemoryReceiver(STORED)(Observation(None), SHAPE, rng) is None


def test_a_memory_lifts_stored_pictures_and_leaves_others(folder: Path) -> None:
    """End to end, at equal channel uses: the plain scheme is never better on what is stored."""
    for file, known in ((folder / "2.png", True), (folder.parent / "other.png", False)):
        for base in ("softcast", "avif+ldpc:mcs3"):
            plain, with_memory = (
                semcom.send(file, name, snr_db=5.0, rho="1/4") for name in (base, f"{base}+memory@{folder}")
            )
            assert with_memory.record.channel_uses == plain.record.channel_uses
            if known:
                assert torch.equal(with_memory.outcome.x_hat, STORED.pictures[2])
            else:
                assert torch.equal(with_memory.outcome.x_hat, plain.outcome.x_hat)


CODEC = MemoryCodec(StreamCodec(Avif()), STORED)
CHECK_0 = check_of(STORED.pictures[0])


def test_residual_coding_sends_the_least_that_is_needed() -> None:
    stored, other = STORED.pictures[3], OTHERS[3]
    alone = fit(CODEC, stored, 4000)
    assert (alone.payload, kind_of_payload(alone.payload)) == (bytes([2 * 3 + 1]) + check_of(stored), "index")
    assert torch.equal(alone.decoded, stored)
    plain = fit(CODEC, other, 4000)
    assert plain.payload[0] == 0
    inner = fit(CODEC.codec, other, 4000 - 8)
    assert plain.payload[1:] == inner.payload
    assert torch.equal(plain.decoded, inner.decoded)
    stale = stored.clone()
    stale[:, :, 10:20, 10:20] = (stale[:, :, 10:20, 10:20] + 0.2).clamp(0, 1)
    found = fit(CODEC, stale, 1200)
    assert kind_of_payload(found.payload) == "innovation"
    assert torch.equal(CODEC.decode(found.payload, SHAPE), found.decoded)
    error, error_without = (
        float((x - stale).square().mean()) for x in (found.decoded, fit(CODEC.codec, stale, 1200).decoded)
    )
    assert error < error_without
    assert 8 * len(found.payload) <= 1200


def test_at_one_quality_the_shortest_form_that_is_as_good() -> None:
    quality = CODEC.qualities[-1]
    kinds = [kind_of_payload(CODEC.encode(x, quality)) for x in (STORED.pictures[1], OTHERS[1])]
    assert kinds == ["index", "picture"]
    assert CODEC.scale(CODEC.encode(STORED.pictures[1], quality), SHAPE) == 1
    assert CODEC.scale(CODEC.encode(OTHERS[1], CODEC.qualities[0]), SHAPE) == 8


@pytest.mark.parametrize("count", [63, 64, 200])
def test_indices_of_one_and_two_bytes(count: int) -> None:
    codec = MemoryCodec(StreamCodec(Avif()), PictureMemory(pictures(count, seed=2), "many"))
    last = codec.memory.pictures[-1]
    payload = codec.fit(last, 4000).payload
    assert len(payload) == (1 if 2 * count - 1 < 128 else 2) + 2  # and a check
    assert torch.equal(codec.decode(payload, SHAPE), last)


@pytest.mark.parametrize(
    "payload",
    [
        *(b"", b"\x80", b"\xff" * 9, bytes([11]), bytes([1, 0]), bytes([0x81, 0]), bytes([2]), b"\x00"),
        *(b"\x01" + CHECK_0[:1], b"\x01" + CHECK_0 + b"\0", b"\x02" + CHECK_0, bytes([11]) + CHECK_0),
        b"\x03" + CHECK_0,
    ],
)
def test_payloads_that_no_encoder_makes_are_corrupt(payload: bytes) -> None:
    with pytest.raises(CorruptPayload):
        CODEC.decode(payload, SHAPE)


def test_a_budget_too_small_for_anything() -> None:
    with pytest.raises(BudgetTooSmall):
        CODEC.fit(OTHERS[0], 4)
    assert CODEC.fit(STORED.pictures[0], 24).payload == b"\x01" + CHECK_0


def test_names_have_the_digest_of_the_pictures(folder: Path) -> None:
    memory = pictures_of(folder)
    assert memory.digest == STORED.digest
    assert PictureMemory(STORED.pictures[::-1], "stored").digest != STORED.digest  # indices differ
    scheme = names.scheme(f"softcast+memory@{folder}")
    assert scheme.name == f"softcast+memory@stored#{memory.digest}"
    again = names.scheme(f"softcast+memory@{folder}#{memory.digest}")
    assert again.name == scheme.name
    assert names.scheme(f"softcast+memory:always@{folder}").name.startswith("softcast+memory:always@stored#")
    assert names.scheme(f"softcast+memory:0.1@{folder}").name.startswith("softcast+memory:0.1@stored#")
    digital = names.scheme(f"memory:jpeg@{folder}+ldpc")
    assert digital.name == f"memory:jpeg@stored#{memory.digest}+ldpc:csit-average"
    assert "or an index of what both ends store" in described(digital.name)
    assert "recalled where the energy" in described(scheme.name)
    assert "recalled always" in described("softcast+memory:always@stored#00000000")
    assert names.with_receiver("softcast", None, memory="d") == "softcast+memory@d"
    assert names.with_receiver("softcast", "memory", memory="d") == "softcast+memory@d"
    assert names.with_receiver("memory:avif+ldpc", None, memory="d") == "memory:avif@d+ldpc"


def test_wrong_names_are_refused_in_one_line(folder: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    cases = [
        (InvalidOption, "digest", lambda: names.scheme(f"softcast+memory@{folder}#00000000")),
        (InvalidOption, "without a folder", lambda: names.scheme("softcast+memory")),
        (InvalidOption, "spelled", lambda: names.scheme(f"softcast+memory:much@{folder}")),
        (InvalidOption, "spelled", lambda: names.scheme(f"softcast+memory:0.1:2@{folder}")),
        (InvalidOption, "from 0 to 1", lambda: names.scheme(f"softcast+memory:2@{folder}")),
        (InvalidSource, "no such", lambda: names.scheme(f"softcast+memory@{tmp_path}/none")),
        (InvalidSource, "no pictures", lambda: names.scheme(f"softcast+memory@{empty}")),
        (InvalidSource, "no pictures", lambda: PictureMemory(())),
        (InvalidOption, "has a receiver", lambda: names.scheme(f"softcast+ddrm:8+memory@{folder}")),
        (InvalidOption, "spelled", lambda: names.scheme("memory:avif+ldpc")),
        (InvalidOption, "spelled", lambda: names.scheme(f"memory:avif@{folder}+refine")),
        (UnknownName, "codec", lambda: names.scheme(f"memory:avi@{folder}+ldpc")),
        (InvalidSource, "texts", lambda: names.scheme(f"memory:zlib@{folder}+ldpc", TEXT)),
        (InvalidOption, "image items only", lambda: names.scheme(f"x265+ldpc+memory@{folder}", VIDEO)),
        (InvalidOption, "--memory", lambda: names.with_receiver("softcast", "memory")),
        (InvalidOption, "--memory", lambda: names.with_receiver("softcast", "ddrm", memory="d")),
        (InvalidOption, "--knob", lambda: names.with_receiver("softcast", None, knob=0.5, memory="d")),
        (InvalidOption, "--prior", lambda: names.with_receiver("softcast", None, prior="p", memory="d")),
    ]
    for kind, words, call in cases:
        with pytest.raises(kind, match=words) as caught:
            call()
        assert "\n" not in str(caught.value), words


def test_the_command_line_takes_a_memory(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--snr", "0", "--rho", "1/4", "--memory", str(folder), "--json")
    assert main(["send", str(folder / "1.png"), "--scheme", "softcast", *arguments]) == 0
    recalled = json.loads(capsys.readouterr().out)
    assert "memory@stored#" in recalled["scheme"]
    assert recalled["psnr_db"] > 90
    assert main(["send", str(folder / "1.png"), "--scheme", "memory:avif+ldpc:mcs3", *arguments]) == 0
    coded = json.loads(capsys.readouterr().out)
    assert coded["payload_bits"] == 24.0
    assert coded["channel_uses"] == recalled["channel_uses"]


def test_a_codec_with_a_memory_may_wrap_a_cache() -> None:
    assert MemoryCodec(Memo(StreamCodec(Avif())), STORED).name == CODEC.name


def test_decisions_are_in_the_record_and_in_the_report(folder: Path, tmp_path: Path) -> None:
    """Of a memory at the receiver, in the codec, and of a cache: on a stored picture and on another one."""
    spelled = (
        f"softcast+memory@{folder}",
        f"softcast+memory:always@{folder}",
        f"memory:avif@{folder}+ldpc:mcs3",
        f"memory:avif@{folder}+ideal",
        f"cache:nearest:avif+ldpc:mcs3@{folder}",
        "softcast",
    )
    schemes = [names.scheme(name) for name in spelled]
    items = (load(folder / "1.png"), load(tmp_path / "other.png"))
    sweep = Sweep(tuple(schemes), (AWGN(),), items, (5.0,), ("1/4",), (PSNR(),))
    out = tmp_path / "out"
    with ResultStore(out / RECORDS) as store:
        tuple(run(sweep, store))
        frame = store.frame()
    keep_originals(items, out)
    expected = {
        0: {"retrieved": (1, 0), "generated": (0, 1), "retransmit": (0, 0)},
        1: {"retrieved": (1, 1), "generated": (0, 0), "retransmit": (0, 0)},
        2: {"index_sent": (1, 0), "innovation_sent": (0, 0)},
        3: {"index_sent": (1, 0), "innovation_sent": (0, 0)},
        4: {"familiar": (1, 0), "false_hit": (0, 0)},
        5: {},
    }
    for number, decisions in expected.items():
        of_scheme = frame[frame["scheme"] == schemes[number].name].set_index("item")
        for column in DECISIONS:
            values = of_scheme.loc[[item.id for item in items], column].to_numpy()
            if column in decisions:
                assert tuple(values) == decisions[column], (spelled[number], column)
            else:
                assert np.isnan(values).all(), (spelled[number], column)
    energies = frame[frame["scheme"] == schemes[0].name].set_index("item")["memory_energy"]
    # chi-squared of more than half of the 3 * 48 * 48 / 2 real values; six standard deviations
    assert abs(energies[items[0].id] - 1) < 6 * math.sqrt(2 / (3 * SIDE * SIDE / 4))
    assert energies[items[1].id] > 2
    found = table(frame).set_index("scheme")
    assert found.loc[schemes[0].name, DECISIONS["retrieved"]] == "50%"
    assert found.loc[schemes[1].name, DECISIONS["retrieved"]] == "100%"
    assert found.loc[schemes[4].name, DECISIONS["false_hit"]] == "0%"
    assert found.loc["softcast", DECISIONS["retrieved"]] == ""
    page = report(out, tmp_path / "report.html", "Memory").read_text()
    assert all(heading in page for heading in DECISIONS.values())


def test_decisions_on_what_noise_hides_and_on_what_is_lost(folder: Path) -> None:
    """A lost item has none; without a stored picture of its size nothing is recalled."""
    receiver, rng = MemoryReceiver(STORED), NamedStreams(0, ("receiver",))
    assert receiver.decided(Observation(None), SHAPE, rng) == (None, {})
    transmission = names.scheme("softcast").transmission
    assert isinstance(transmission, Transmission)
    found = observed(transmission, OTHERS[0], 10.0, 0)
    shown, columns = MemoryReceiver(A_MEMORY).decided(found, SHAPE, rng)
    assert shown is found.shown
    assert columns == {"retrieved": 0.0, "generated": 1.0, "retransmit": 0.0}
    noisy = observed(transmission, STORED.pictures[0], 0.0, 0)
    # of N values with a signal of about N: 0.7 N < 20 (sqrt(6 N) + sqrt(2 N)) up to N = 12 000
    shown, columns = MemoryReceiver(STORED, Gate(deviations=20.0)).decided(noisy, SHAPE, rng)
    assert shown is noisy.shown
    assert columns["retransmit"] == 1.0
    lost = send(folder / "1.png", f"softcast+memory@{folder}", snr_db=-40.0)
    assert lost.outcome.outage
    assert "retransmit" not in lost.record.numbers


@pytest.mark.parametrize("change", ["another", "order", "one more", "edited"])
def test_ends_with_different_memories_lose_the_picture_and_show_no_wrong_one(change: str) -> None:
    """The digest of the stored picture that was meant, 16 bits of it, goes with its index."""
    edited = STORED.pictures[1].clone()
    edited[0, 0, 0, 0] = 1 - edited[0, 0, 0, 0].round()
    there = {
        "another": OTHERS,
        "order": STORED.pictures[::-1],
        "one more": (OTHERS[0], *STORED.pictures),
        "edited": (STORED.pictures[0], edited, *STORED.pictures[2:]),
    }[change]
    other = MemoryCodec(CODEC.codec, PictureMemory(there, "there"))
    near = STORED.pictures[1].clone()
    near[:, :, 10:20, 10:20] = (near[:, :, 10:20, 10:20] + 0.2).clamp(0, 1)
    for x, form in ((STORED.pictures[1], "index"), (near, "innovation")):
        payload = fit(CODEC, x, 1200).payload
        assert kind_of_payload(payload) == form
        with pytest.raises(CorruptPayload, match="memories of both ends differ"):
            other.decode(payload, SHAPE)
    # what lies at its place in both memories is shown, whatever else they hold
    appended = MemoryCodec(CODEC.codec, PictureMemory((*STORED.pictures, OTHERS[0]), "appended"))
    assert torch.equal(
        appended.decode(fit(CODEC, STORED.pictures[1], 1200).payload, SHAPE), STORED.pictures[1]
    )


def test_codec_and_memory_options_keep_and_name_the_memory(folder: Path) -> None:
    assert names.with_codec("memory:avif+ldpc:mcs3", "jpeg") == "memory:jpeg+ldpc:mcs3"
    assert names.with_codec(f"memory:avif@{folder}+ldpc", "jpeg") == f"memory:jpeg@{folder}+ldpc"
    assert names.with_codec("memory:avif@a+b@c#00000000+ldpc", "jpeg") == "memory:jpeg@a+b@c#00000000+ldpc"
    for name in (
        "cache:avif+ldpc@one",
        "memory:avif@one+ldpc",
        "softcast+memory@one",
        "softcast+memory:0.2@one",
    ):
        with pytest.raises(InvalidOption, match="names its memory"):
            names.with_receiver(name, None, memory="two")
    with pytest.raises(InvalidOption, match="spelled"):
        names.scheme(names.with_receiver("memory:", None, memory=str(folder)))
    odd = MemoryReceiver(STORED, Gate(0.123456789))
    again = names.receiver(odd.name.replace(STORED.name, str(folder)))
    assert isinstance(again, MemoryReceiver)
    assert again.gate == odd.gate
