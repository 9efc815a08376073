"""The tasks of the comparison: the same reward, network, batch, optimizer and rates for every library.

Network, batch and rates are those of gfnx's tb_hypergrid baseline, which are also the defaults of torchgfn's
train_hypergrid_simple.py and train_bitsequence_non_autoregressive.py; R0 is torchgfn's (gfnx's baseline has 1e-3, with which
on-policy training may miss modes in any library). On-policy, float32, CPU.
"""
from typing import Any

from hjepa_gfn.gflownet.environments import BitSequences, Hypergrid

TRAINING = {"loss": "tb", "batch": 16, "hidden": [256, 256], "lr": 1e-3, "flow_lr": 0.1, "optimizer": "adam", "epsilon": 0.0}
TASKS = {
    "hypergrid_8x8": {"name": "hypergrid", "dim": 2, "side": 8, "r0": 0.1, "r1": 0.5, "r2": 2.0},
    "hypergrid_8^4": {"name": "hypergrid", "dim": 4, "side": 8, "r0": 0.1, "r1": 0.5, "r2": 2.0},
    "bits_16_4": {"name": "bit_sequences", "num_bits": 16, "word": 4, "num_modes": 60, "reward_exponent": 2.0},
}
TARGETS = {  # at most this many times the peer's CPU time an iteration
    "hypergrid_8x8": {"gfnx": 0.65, "torchgfn": 0.15}, "hypergrid_8^4": {"gfnx": 0.85}, "bits_16_4": {"gfnx": 0.9},
}


def make_env(task: dict[str, Any]) -> Hypergrid | BitSequences:
    """Our environment of a task."""
    fields = {k: v for k, v in task.items() if k not in ("name", "modes")}
    return Hypergrid(**fields) if task["name"] == "hypergrid" else BitSequences(**fields)


def make_spec(name: str) -> dict[str, Any]:
    """What a worker is told: the task, with our modes written out, and how to train."""
    task = dict(TASKS[name])
    if task["name"] == "bit_sequences":
        task["modes"] = make_env(task).modes.astype(int).tolist()
    return {"task": task, "training": TRAINING}
