"""Associative memory: energies, retrieval, the exact Bayes receiver of stored patterns, and memorisation."""

from semcom.memory.energies import layer_energy, mchn_energy, nearest_squared_distance, retrieve
from semcom.memory.gate import Decision, Gate
from semcom.memory.memory import Memory, Recall

__all__ = [
    "Decision",
    "Gate",
    "Memory",
    "Recall",
    "layer_energy",
    "mchn_energy",
    "nearest_squared_distance",
    "retrieve",
]
