"""Minimal ISO base media file with one still picture, the container of AVIF and HEIF."""

import struct
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StillItem:
    """One coded picture with the properties that its container declares.

    Args:
        codec: Item type, b"av01" or b"hvc1".
        config: Body of the decoder configuration box (av1C or hvcC).
        size: Displayed width and height in pixels.
        coded_size: Coded width and height in pixels; the displayed picture is its upper left corner.
        data: Coded picture.
    """

    codec: bytes
    config: bytes
    size: tuple[int, int]
    coded_size: tuple[int, int]
    data: bytes


_BRANDS = {b"av01": b"avif", b"hvc1": b"heic"}
_CONFIG_BOX = {b"av01": b"av1C", b"hvc1": b"hvcC"}
# ISO/IEC 23091-2: primaries BT.709, transfer sRGB, matrix BT.601, full range
_COLOUR = b"nclx" + struct.pack(">HHHB", 1, 13, 6, 0x80)


def write(item: StillItem) -> bytes:
    """Write a file with one item, its properties and its data.

    Args:
        item: The coded picture.

    Returns:
        The file.

    Reference:
        ISO/IEC 14496-12:2022 (ftyp, meta, iloc, iinf, mdat); ISO/IEC 23008-12:2022, 6.5 (ispe, pixi, ipma).
    """
    brand = _BRANDS[item.codec]
    properties = [
        _full(b"ispe", struct.pack(">II", *item.coded_size)),
        _full(b"pixi", bytes([3, 8, 8, 8])),
        _box(b"colr", _COLOUR),
        _box(_CONFIG_BOX[item.codec], item.config),
    ]
    essential = 4  # the decoder configuration, and the crop
    if item.size != item.coded_size:
        offsets = [shown - coded for shown, coded in zip(item.size, item.coded_size, strict=True)]
        crop = struct.pack(">IIIIiIiI", item.size[0], 1, item.size[1], 1, offsets[0], 2, offsets[1], 2)
        properties.append(_box(b"clap", crop))
    numbers = [i | 0x80 if i >= essential else i for i in range(1, len(properties) + 1)]
    association = _full(b"ipma", struct.pack(">IHB", 1, 1, len(numbers)) + bytes(numbers))
    ftyp = _box(b"ftyp", brand + bytes(4) + b"mif1" + brand)

    def meta(offset: int) -> bytes:
        return _full(
            b"meta",
            _full(b"hdlr", bytes(4) + b"pict" + bytes(13))
            + _full(b"pitm", struct.pack(">H", 1))
            + _full(b"iloc", struct.pack(">HHHHHII", 0x4400, 1, 1, 0, 1, offset, len(item.data)))
            + _full(
                b"iinf",
                struct.pack(">H", 1) + _full(b"infe", struct.pack(">HH", 1, 0) + item.codec + b"\0", 2),
            )
            + _box(b"iprp", _box(b"ipco", b"".join(properties)) + association),
        )

    offset = len(ftyp) + len(meta(0)) + 8
    return ftyp + meta(offset) + _box(b"mdat", item.data)


def read(file: bytes) -> StillItem:
    """Read the item of a file with the structure that `write` produces.

    Args:
        file: The file.

    Returns:
        The coded picture.

    Raises:
        ValueError: The boxes are damaged, missing or nested in another way.
    """
    boxes = children(file)
    item_properties = children(children(children(boxes[b"meta"][4:])[b"iprp"])[b"ipco"])
    coded_size = struct.unpack(">4xII", item_properties[b"ispe"])
    size = coded_size
    if b"clap" in item_properties:
        size = struct.unpack(">I4xI20x", item_properties[b"clap"])
    for codec, config in _CONFIG_BOX.items():
        if config in item_properties:
            return StillItem(codec, item_properties[config], size, coded_size, boxes[b"mdat"])
    raise ValueError("no AV1 or HEVC picture in this file")


def children(data: bytes) -> dict[bytes, bytes]:
    """Split a sequence of boxes into their kinds and bodies; the last box of a kind wins.

    Args:
        data: Boxes one after another.

    Returns:
        Body by kind (four characters).

    Raises:
        ValueError: A box is cut short or longer than the data.
    """
    boxes: dict[bytes, bytes] = {}
    while data:
        if len(data) < 8:
            raise ValueError("box is cut short")
        length, kind = struct.unpack(">I4s", data[:8])
        if not 8 <= length <= len(data):
            raise ValueError(f"box of {length} bytes where {len(data)} are left")
        boxes[kind] = data[8:length]
        data = data[length:]
    return boxes


def _box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), kind) + body


def _full(kind: bytes, body: bytes, version: int = 0) -> bytes:
    return _box(kind, bytes([version, 0, 0, 0]) + body)
