"""The losses of `losses.py` by name, as functions of a `Path` and log rewards: what `training.py` minimises.

    name          residuals between                          log F(z) from
    tb            root and terminal copy                     one scalar, log Z (Malkin et al. 2022)
    vargrad       terminal copies of a batch                 nothing: log Z is the batch's own estimate
    db            both ends of each edge, STOP included      flow head (Bengio et al. 2023)
    subtb         all pairs of nodes, weight lambda^(j-i)    flow head (Madan et al. 2022)
    fl_db         as db                                      log R(z) + flow head (Pan et al. 2023)
    fl_subtb      as subtb                                   log R(z) + flow head
    stop_db       both ends of each edge                     log R(z) - log P_F(STOP|z) (Deleu et al. 2022)
    stop_subtb    all pairs of states                        log R(z) - log P_F(STOP|z)

The last four read the reward of partial states, so every state must be able to stop.
"""
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from hjepa_gfn.gflownet import losses
from hjepa_gfn.gflownet.losses import Metrics
from hjepa_gfn.gflownet.policy import Path


class Objective(NamedTuple):
    """A loss over sampled trajectories.

    `loss(path, log_reward_end [B], log_reward [B, T+1] or None) -> (scalar, metrics)`; `flow` is what it needs of a network
    (`networks.FLOWS`), `partial` whether it reads the reward of partial states.
    """

    loss: Callable[[Path, jnp.ndarray, jnp.ndarray | None], tuple[jnp.ndarray, Metrics]]
    flow: str = "none"
    partial: bool = False


def _terminal(path: Path, end: jnp.ndarray) -> jnp.ndarray:
    return losses.terminal_potential(path.log_pf, path.log_pb, path.stop_at_end, end)


def _nodes(path: Path, end: jnp.ndarray, log_flow: jnp.ndarray, closed: bool) -> tuple[jnp.ndarray, jnp.ndarray]:
    """(potential, number of the last node): with the terminal copy as a node of its own where `closed`."""
    potential = losses.balance_potential(log_flow, path.log_pf, path.log_pb)
    return losses.with_terminal(potential, _terminal(path, end), path.length) if closed else (potential, path.length)


def _flow(path: Path, partial: jnp.ndarray | None, form: str) -> jnp.ndarray:
    if form == "stop":
        return losses.stop_flow(partial, path.log_stop)
    return path.log_flow if form == "head" else losses.forward_looking_flow(partial, path.log_flow)


def trajectory(path: Path, end: jnp.ndarray, partial: jnp.ndarray | None = None) -> tuple[jnp.ndarray, Metrics]:
    """TB: the two ends of the trajectory are all that counts."""
    ends = jnp.stack([path.log_flow[:, 0], _terminal(path, end)], axis=1)
    return losses.trajectory_balance(ends, jnp.ones_like(path.length))


def log_variance(path: Path, end: jnp.ndarray, partial: jnp.ndarray | None = None) -> tuple[jnp.ndarray, Metrics]:
    """VarGrad over the whole batch as one context."""
    loss, metrics = losses.log_partition_variance(_terminal(path, end), jnp.zeros_like(path.length), 1)
    return loss, metrics | {"log_z": metrics["log_z"][0]}


def detailed(form: str) -> Objective:
    """Detailed balance with the flow of `form`: head, looking (forward-looking) or stop."""

    def loss(path, end, partial):
        return losses.detailed_balance(*_nodes(path, end, _flow(path, partial, form), form != "stop"))

    return Objective(loss, "none" if form == "stop" else "head", form != "head")


def subtrajectory(form: str, lam: float = 0.9) -> Objective:
    """SubTB(lambda) with the flow of `form`: head, looking (forward-looking) or stop."""

    def loss(path, end, partial):
        potential, last = _nodes(path, end, _flow(path, partial, form), form != "stop")
        return losses.subtb(potential, losses.is_present(potential, last), lam)

    return Objective(loss, "none" if form == "stop" else "head", form != "head")


OBJECTIVES = {
    "tb": Objective(trajectory, "constant"),
    "vargrad": Objective(log_variance),
    "db": detailed("head"),
    "subtb": subtrajectory("head"),
    "fl_db": detailed("looking"),
    "fl_subtb": subtrajectory("looking"),
    "stop_db": detailed("stop"),
    "stop_subtb": subtrajectory("stop"),
}
