"""Video at extreme rates: layered coding with a refiner, predictive coding with a gate, and their files."""
