"""A tiny agent and random plans, windows and texts for it: what the tests of models and objectives share."""

import functools
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from hjepa_gfn.gflownet.rollout import sample_index
from hjepa_gfn.objectives.system import System, init_params, make_system
from hjepa_gfn.plans import Plan, apply_backward, apply_forward, backward_mask, forward_mask, root_plan, split_site

ACTIONS, WORDS, TEXT, MISSION, WINDOW = 3, 9, 7, 4, 7
MODEL = dict(
    state=6, hidden=12, step_levels=(3, 3), levels=(dict(code=(3,), action=(3, 3), longest=4),),
    width=16, heads=2, mlp=16, layers=2, context_layers=1, queries=2, max_legs=3, max_steps=4)


# a third level, of clauses: plans of up to 3 clauses, of the first of which 3 legs, and 4 steps
CLAUSES = (*MODEL["levels"], dict(name="clause", code=(3, 3), action=(3,), longest=3, segments="clauses", most=3))


@functools.cache
def system(**changes: Any) -> System:
    """Width 16, two layers: plans of up to 3 legs and 4 steps (capacity 7, at most 14 edits). `clauses=True`: a third level."""
    if changes.pop("clauses", False):
        changes["levels"] = CLAUSES
    return make_system(SimpleNamespace(**{**MODEL, **changes}), WORDS, TEXT, ACTIONS)


def drawn(init: Any, seed: int = 0) -> Any:
    """Random parameters of the shapes of `init()`: none is zero, as heads that begin at zero would hide mistakes."""
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        noise, name = rng.normal(size=leaf.shape), path[-1].key
        spread = leaf.shape[-2] ** -0.5 if name == "kernel" else 0.2 if name == "scale" else 0.5
        return jnp.asarray((name == "scale") + spread * noise, leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, nn.unbox(jax.eval_shape(init)))


@functools.cache
def params(seed: int = 0, **changes: Any) -> Any:
    """Random parameters of every group."""
    return drawn(lambda: init_params(system(**changes), jax.random.key(0), MISSION), seed)


def percepts(batch: int, seed: int = 0) -> dict[str, jnp.ndarray]:
    """What the sensors may give: view uint8 [B, 7, 7, 3], direction int32 [B]."""
    rng = np.random.default_rng(seed)
    view = rng.integers(0, (11, 6, 3), (batch, 7, 7, 3)).astype(np.uint8)
    return {"view": jnp.asarray(view), "direction": jnp.asarray(rng.integers(0, 4, batch), jnp.int32)}


def words(batch: int, length: int, seed: int = 0, full: bool = False) -> jnp.ndarray:
    """Texts int32 [B, length]: begin, words, end, padding; of different lengths unless `full`."""
    rng = np.random.default_rng(seed)
    out = np.zeros((batch, length), np.int32)
    for row in out:
        end = length if full else rng.integers(3, length + 1)
        row[:end] = rng.integers(3, WORDS, end)
        row[0], row[end - 1] = 1, 2
    return jnp.asarray(out)


@functools.cache
def _encode(**changes: Any) -> Any:
    return jax.jit(lambda p, *inputs: system(**changes).net(p, *inputs, method="context"))


def context(batch: int, seed: int = 0, **changes: Any) -> Any:
    """Context tokens of random situations."""
    state = jnp.asarray(np.random.default_rng(seed).normal(size=(batch, MODEL["state"])), jnp.float32)
    return _encode(**changes)(params(**changes), percepts(batch, seed), state, words(batch, MISSION, seed))


def window(lengths: list[list[int]], seed: int = 0) -> dict[str, jnp.ndarray]:
    """A batch of windows whose legs have the given lengths (an empty list: no trajectory)."""
    rng = np.random.default_rng(seed)
    batch = len(lengths)
    action, segment = np.zeros((2, batch, WINDOW), np.int32)
    for b, legs in enumerate(lengths):
        flat = [leg for leg, steps in enumerate(legs) for _ in range(steps)][:WINDOW]
        segment[b, : len(flat)], action[b, : len(flat)] = flat, rng.integers(0, ACTIONS, len(flat))
    seen = percepts(batch * (WINDOW + 1), seed)
    return {
        **{name: x.reshape(batch, WINDOW + 1, *x.shape[1:]) for name, x in seen.items()},
        "action": jnp.asarray(action), "segment": jnp.asarray(segment),
        "length": jnp.asarray([min(sum(legs), WINDOW) for legs in lengths], jnp.int32)}


def uniform(key: jnp.ndarray, mask: jnp.ndarray) -> jnp.ndarray:
    """One True entry of each row of a mask [B, V], uniformly."""
    return sample_index(jax.random.uniform(key, mask.shape[:1], minval=1e-6), jnp.where(mask, 0.0, -1e9))


@functools.partial(jax.jit, static_argnums=(0, 2, 3))
def random_plans(spec: Any, key: jnp.ndarray, batch: int, steps: int = 24) -> Plan:
    """Plans [B] after random walks of `steps` edits, a quarter of them backward, so that free slots lie anywhere."""
    state_codes, action_codes = jnp.asarray(spec.state_codes), jnp.asarray(spec.action_codes)

    def step(plan, key):
        k_way, k_site, k_code, k_back = jax.random.split(key, 4)
        can, undo = forward_mask(plan, spec), backward_mask(plan, spec)
        site = uniform(k_site, can)
        _, scale, kind = split_site(site, spec.num_scales)
        size = jnp.where(kind == 0, state_codes[scale], jnp.where(kind == 1, action_codes[scale], 1))
        ahead, _ = apply_forward(plan, site, jax.random.randint(k_code, (batch,), 0, size), spec)
        behind, _, _ = apply_backward(plan, uniform(k_back, undo), spec)
        way = jax.random.uniform(k_way, (batch,))
        forth, back = (way >= 0.25) & can.any(-1), (way < 0.25) & undo.any(-1)

        def pick(a, b, c):
            shape = (batch,) + (1,) * (a.ndim - 1)
            return jnp.where(forth.reshape(shape), a, jnp.where(back.reshape(shape), b, c))

        return jax.tree.map(pick, ahead, behind, plan), None

    return jax.lax.scan(step, root_plan(spec, (batch,)), jax.random.split(key, steps))[0]
