"""How metrics and their values are spelled in tables and sentences."""

import math

from semcom.columns import Column
from semcom.metrics.catalogue import SHIPPED_COLUMNS

DIGITS = {"psnr_db": 2, "swd": 1, "bleu": 1, "chrf": 1, "vmaf": 1, "vmaf_neg": 1}
BRIEF = {
    **{"psnr_db": "PSNR dB", "ssim": "SSIM", "ms_ssim": "MS-SSIM", "swd": "SWD", "lpips_squeeze": "LPIPS"},
    **{"wer": "WER", "cer": "CER", "bleu": "BLEU", "chrf": "chrF", "vmaf": "VMAF", "vmaf_neg": "VMAF-NEG"},
    **{"minilm_cosine": "MiniLM cosine"},
    **{"cvvdp": "CVVDP JOD", "warp_error": "warp error", "warp_error_gap": "warp gap"},
    **{"clip_feature_distance": "clip features"},
}
SPOKEN = {
    **{"psnr_db": "PSNR", "ssim": "SSIM", "ms_ssim": "MS-SSIM", "swd": "SWD", "bleu": "BLEU"},
    **{"grid": "periodicity at the grid", "vmaf": "VMAF", "vmaf_neg": "VMAF-NEG"},
    **{"cvvdp": "ColorVideoVDP", "warp_error": "warp error", "warp_error_gap": "gap of the warp error"},
    **{"clip_feature_distance": "distance of clip features"},
    **{"lpips_squeeze": "LPIPS", "lpips_alex": "LPIPS (AlexNet)", "lpips_vgg": "LPIPS (VGG-16)"},
    **{"chrf": "chrF", "minilm_cosine": "cosine of embeddings"},
    **{"wer": "word error rate", "cer": "character error rate", "mse": "squared error"},
}
MINUS = "\N{MINUS SIGN}"
NOUNS = {"image": "picture", "video": "clip", "text": "text"}


def brief(column: Column) -> str:
    """Short heading of a metric in tables: "PSNR dB", "LPIPS"; others have name and unit.

    Args:
        column: Column of the metric.

    Returns:
        The heading.
    """
    return BRIEF.get(column.name, f"{column.name} {column.unit}".strip())


def spoken(column: Column) -> str:
    """Name of a metric inside a sentence, without unit.

    Args:
        column: Column of the metric.

    Returns:
        The name, such as "PSNR"; the column name for metrics that this package does not know.
    """
    return SPOKEN.get(column.name, column.name)


def decimals(column: Column, largest: float) -> int:
    """Number of decimals of a metric: its usual one, else four significant digits for the largest mean.

    Args:
        column: Column of the metric.
        largest: Largest absolute mean.

    Returns:
        Number of decimals, at least 0.
    """
    if column.name in DIGITS:
        return DIGITS[column.name]
    if column.name in SHIPPED_COLUMNS or largest == 0 or not math.isfinite(largest):
        return 3
    return max(0, 3 - math.floor(math.log10(largest)))


def amount(column: Column, value: float, digits: int, sign: str = "") -> str:
    """A value with its unit, with a true minus sign.

    Args:
        column: Column of the metric.
        value: The value.
        digits: Number of decimals.
        sign: "+" to write the sign of positive values, too.

    Returns:
        Text such as "26.1 dB".
    """
    return f"{value:{sign}.{digits}f} {column.unit}".strip().replace("-", MINUS)


def noun(modality: str, number: int = 1) -> str:
    """What items of a modality are called.

    Args:
        modality: Name of the modality.
        number: How many; for the plural.

    Returns:
        Noun such as "picture" or "clips"; "item" for modalities of other packages.
    """
    return NOUNS.get(modality, "item") + ("s" if number != 1 else "")
