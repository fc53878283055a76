"""Video at extreme rates: coded key frames, and a predictor at the receiver that makes the frames between."""
