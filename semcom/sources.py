"""Images by the names that older programs import; they are defined in `semcom.modalities.image`."""

from semcom.modalities.image import MAX_SIDE, Image, check_image

__all__ = ["MAX_SIDE", "Image", "check_image"]
