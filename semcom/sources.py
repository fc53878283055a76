"""Image types under the names that older programs import; defined in `semcom.modalities.image`."""

from semcom.modalities.image import MAX_SIDE, Image, check_image

__all__ = ["MAX_SIDE", "Image", "check_image"]
