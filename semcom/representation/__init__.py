"""Representations of frames whose trajectories are straight, and links that predict them."""
