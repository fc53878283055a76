"""Constants of colour that networks and modalities share."""

MEAN_COLOR = (0.4813, 0.4574, 0.4078)
"""Mean RGB of ImageNet photographs in [0, 1], a constant of the training set; never measured on an item."""
