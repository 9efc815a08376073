"""Train state and train steps on a mesh: born sharded, compiled once, donated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh

from hjepa_gfn.distributed.mesh import replicated
from hjepa_gfn.distributed.sharding import ShardingRules, param_shardings, unbox, use_mesh


def abstract_state(
    init: Callable[[jax.Array], Any], mesh: Mesh, rules: ShardingRules = ShardingRules()  # noqa: B008 (frozen)
) -> Any:
    """Shapes, dtypes and shardings of `init(key)` as `jax.ShapeDtypeStruct`s, without computing anything.

    `init` may return Linen's boxed parameters (and optimiser moments made from them); the result is unboxed.

    Raises:
      ValueError: the state holds a typed random key. Jit caches those twice and storage does not know them: hold
        `jax.random.key_data(key)`, or better no key at all but `jax.random.fold_in(jax.random.key(seed), state.step)`.
    """
    boxed = jax.eval_shape(init, jax.random.key(0))
    for path, leaf in jax.tree_util.tree_flatten_with_path(unbox(boxed))[0]:
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            raise ValueError(f"state{jax.tree_util.keystr(path)} is a typed random key: hold its jax.random.key_data")
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        unbox(boxed),
        param_shardings(boxed, mesh, rules),
    )


def shardings_of(state: Any) -> Any:
    """The shardings of a state, concrete or abstract."""
    return jax.tree.map(lambda leaf: leaf.sharding, state)


def init_state(init: Callable[[jax.Array], Any], key: jax.Array, abstract: Any) -> Any:
    """`unbox(init(key))`, each leaf created on its devices with the shardings of `abstract_state(init, ...)`.

    The same numbers on every mesh.
    """
    # It runs once: on CPU, where compiling it took 20 s of optimisation for a millisecond of work, it is left unoptimised.
    cheap = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    options = cheap if jax.default_backend() == "cpu" else None
    make = jax.jit(lambda key: unbox(init(key)), out_shardings=shardings_of(abstract), compiler_options=options)
    return make(key)


def jit_step(
    step: Callable[..., Any],
    abstract: Any,
    mesh: Mesh,
    rules: ShardingRules = ShardingRules(),  # noqa: B008 (frozen)
    *,
    returns_metrics: bool = True,
) -> Callable[..., Any]:
    """Compiles `step(state, batch) -> (state, metrics)` (or `step(state) -> state`) for the mesh, donating the state.

    The state leaves with the very shardings it came with: left to the compiler they could differ, and the second call
    would compile again. Metrics are replicated, so that every host can read them.
    """

    def on_mesh(*args: Any) -> Any:
        with use_mesh(mesh, rules):
            return step(*args)

    on_mesh.__name__ = getattr(step, "__name__", "step")
    out = shardings_of(abstract)
    return jax.jit(on_mesh, donate_argnums=0, out_shardings=(out, replicated(mesh)) if returns_metrics else out)
