"""Adapters to real environments: batched episodes, percepts, missions, situations in words."""

from hjepa_gfn.worlds.babyai import make_world
from hjepa_gfn.worlds.protocol import Observation, World
from hjepa_gfn.worlds.seeds import SPLITS, split_seeds

__all__ = ["SPLITS", "Observation", "World", "make_world", "split_seeds"]
