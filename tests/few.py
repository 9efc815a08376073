"""A system with few plans and few texts: all of them enumerated, for tests against exact distributions."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import tiny

from hjepa_gfn.models.agent_network import AgentNetwork, Context
from hjepa_gfn.objectives.system import System, init_params
from hjepa_gfn.plans import PlanSpec
from hjepa_gfn.plans.enumeration import enumerate_plans

SPEC = PlanSpec((2, 1), (1, 2), capacity=3, max_edits=3)
LENGTH, WORDS = 4, 5  # texts of at most three words after begin, the end among them


def _texts() -> np.ndarray:
    """Every text: it ends with 2, or is as long as a text may be."""
    rows = []
    for n in range(1, LENGTH):
        for words in itertools.product(range(3, WORDS), repeat=n - 1):
            lasts = (2,) if n < LENGTH - 1 else range(2, WORDS)
            rows += [(1, *words, last, *(0,) * (LENGTH - 1 - n)) for last in lasts]
    return np.array(rows, np.int32)


TEXTS = _texts()


@functools.cache
def small():
    """(system, its random parameters, the enumerated plans)."""
    whole = tiny.system()
    sizes = dataclasses.replace(whole.network.sizes, text_vocab=max(tiny.WORDS, WORDS), text_length=LENGTH)
    system = System(SPEC, AgentNetwork(SPEC, sizes), whole.jepa, 2, 2)
    params = tiny.drawn(lambda: init_params(system, jax.random.key(0), tiny.MISSION))
    # only the first words of the vocabulary are ever written; the energies stay within a few nats
    out = params["model"]["explainer_out"]
    params["model"]["explainer_out"] = {"kernel": 0.4 * out["kernel"], "bias": out["bias"].at[WORDS:].set(-60.0)}
    params["model"]["energy_head"] = jax.tree.map(lambda x: 0.7 * x, params["model"]["energy_head"])
    return system, params, jax.tree.map(jnp.asarray, enumerate_plans(SPEC).plans)


def repeated(number: int, batch: int):
    """Plan `number`, [batch] times."""
    return jax.tree.map(lambda x: jnp.repeat(x[number : number + 1], batch, axis=0), small()[2])


def contexts(batch: int) -> Context:
    """One situation, [batch] times."""
    return Context(*(jnp.repeat(x, batch, axis=0) for x in tiny.context(1)))


def number_of(text: jnp.ndarray) -> np.ndarray:
    """Numbers in TEXTS of texts int32 [B, LENGTH]."""
    number = {row.tobytes(): i for i, row in enumerate(TEXTS)}
    return np.array([number[row.tobytes()] for row in np.asarray(text, np.int32)])


def far(counts: np.ndarray, law: np.ndarray) -> float:
    """Pearson's statistic in deviations from its mean; cells that expect less than four are taken together."""
    counts, expected = np.asarray(counts, float), counts.sum() * np.asarray(law)
    rare = expected < 4
    if rare.any():
        counts, expected = (np.append(x[~rare], x[rare].sum()) for x in (counts, expected))
    return (np.sum((counts - expected) ** 2 / expected) - len(expected) + 1) / np.sqrt(2 * len(expected) - 2)
