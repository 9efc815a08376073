"""The M-step gate of GFlowNet-EM (Hu et al. 2023, section 3.2): learn the model only while the E-step keeps up.

The gate opens while the moving average of the E-step loss is under a threshold that decays over training; it must hold
parameters *and* optimizer state while shut, or momentum keeps moving what should stand still.
"""
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Gate(NamedTuple):
    """What the gate remembers of the E-step."""

    average: jnp.ndarray   # float32 [], moving average of the E-step loss
    count: jnp.ndarray     # int32 [], number of losses seen


def init_gate() -> Gate:
    """A gate that has seen no loss yet (shut)."""
    return Gate(jnp.zeros(()), jnp.zeros((), jnp.int32))


def update_gate(gate: Gate, loss: jnp.ndarray, decay: float) -> Gate:
    """Exponential moving average with bias correction on read."""
    return Gate(decay * gate.average + (1.0 - decay) * jax.lax.stop_gradient(loss), gate.count + 1)


def gate_value(gate: Gate, decay: float) -> jnp.ndarray:
    """Bias-corrected average; infinite before the first loss (the gate starts shut)."""
    mass = 1.0 - jnp.asarray(decay) ** gate.count
    return jnp.where(gate.count > 0, gate.average / jnp.maximum(mass, 1e-9), jnp.inf)


def threshold(step: jnp.ndarray, start: float, end: float, half_life: float) -> jnp.ndarray:
    """Decaying threshold: end + (start - end) 2^(-step / half_life)."""
    return end + (start - end) * 0.5 ** (step / half_life)


def hold(is_open: jnp.ndarray, new: Any, old: Any) -> Any:
    """`new` where the gate is open, else `old`, over whole pytrees."""
    return jax.tree.map(lambda n, o: jnp.where(is_open, n, o), new, old)
