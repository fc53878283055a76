"""Parts as somebody else would write them: a modality, codec, channel, receiver and metric, a file each."""
