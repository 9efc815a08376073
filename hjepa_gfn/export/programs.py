"""The plan sampler and the explainer as programs: StableHLO, one file each, for any platform and any batch size.

A program takes (parameters by flat name, inputs by name) and returns outputs by name, so that a caller needs no class of
ours. The files keep no mesh, no sharding and no logical axes: layers constrain nothing outside `distributed.use_mesh`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib import resources
from typing import Any

import jax
import jax.numpy as jnp
from jax import export

from hjepa_gfn.export.arrays import unflatten, zip_bytes
from hjepa_gfn.models.agent_network import Context
from hjepa_gfn.objectives.em import sample_text
from hjepa_gfn.objectives.groups import actor_view
from hjepa_gfn.objectives.policies import Exploration, evaluate, log_prob_of_path, roots, sample_paths
from hjepa_gfn.objectives.system import Params, System
from hjepa_gfn.objectives.windows import encode_start
from hjepa_gfn.plans import Plan, root_plan
from hjepa_gfn.worlds.egocentric_map import moved, percept, seen
from hjepa_gfn.worlds.heading import placed, stride, turned
from hjepa_gfn.worlds.language import VIEW_SIZE

PLATFORMS = ("cpu", "cuda", "tpu")
Arrays = dict[str, Any]


def sample_plan(system: System, params: Params, inputs: Arrays) -> Arrays:
    """z ~ P_F(z|c), with log P_F of the sampled edits (STOP included) and log P_B of undoing them, both untempered.

    For a trained agent log_prob - log_undo is log P_F(z|c) of the plan, in whatever order it was built.
    """
    context = _context(system, params, inputs)
    start, explore = roots(system, inputs["mission"].shape[0]), Exploration(inputs["temperature"])
    trajectory = sample_paths(system, params, _key(inputs), start, True, context, None, None, explore)
    path = evaluate(system, params, trajectory, context)
    return {
        "plan": trajectory.final._asdict(),
        "log_prob": log_prob_of_path(path, trajectory), "log_undo": path.backward.sum(-1),
    }  # fmt: skip


def explain(system: System, params: Params, inputs: Arrays) -> Arrays:
    """x ~ p(x|z,c) at a temperature, word by word (0: the most probable word each time)."""
    plan = Plan(**inputs["plan"])
    text = sample_text(system, params, _key(inputs), plan, _context(system, params, inputs), inputs["temperature"])
    return {"text": text}


def perceive(system: System, params: Params, inputs: Arrays) -> Arrays:
    """What a percept and those before it make of each other, as the agent's configuration has it: the map of what was seen
    (`worlds.egocentric_map`), turns, and where cells lie as seen from where the mission was given (`worlds.heading`). "view"
    and "direction" are what the other programs read, "known" goes into the next call."""
    view, action, known = inputs["view"], inputs["action"], inputs["known"]
    first = jnp.where(action < 0, inputs["direction"], known["first"])
    place = known["place"] + stride(known["cells"], turned(known["direction"], first), action, system.map)
    cells, shown, more = view, view, {}
    if system.map:
        cells, contradicted = seen(moved(known["cells"], action), view, action)
        shown, more = percept(cells, view), {"contradicted": contradicted}
    turns = turned(inputs["direction"], first)
    return {
        "known": {"cells": cells, "first": first, "direction": inputs["direction"], "place": place},
        "view": placed(shown, place, turns, system.map) if system.heading == "placed" else shown,
        "direction": inputs["direction"] if system.heading == "compass" else turns, **more,
    }  # fmt: skip


def program_files(
    system: System, params: Mapping[str, Any], mission_length: int, temperature: float, text_temperature: float,
    only: tuple[str, ...] = ("sample_plan", "explain", "perceive"),
) -> dict[str, bytes]:
    """The programs of an agent, with their signature, as files by name.

    Args:
      params: arrays (or their shapes) by flat name, as the programs will be given them.
      mission_length: words of a mission.
      temperature: of the sampler, where a caller names none.
      text_temperature: the same of the explainer.
      only: which of them; `perceive` where the agent reads other percepts than views and compass directions.
    """
    shapes = {name: jax.ShapeDtypeStruct(value.shape, value.dtype) for name, value in params.items()}
    described: dict[str, Any] = {}
    files: dict[str, bytes] = {}
    plans = jax.eval_shape(lambda: root_plan(system.spec, (1,)))._asdict()
    given = partial(_inputs, system.view_shape, mission_length)
    programs = [(sample_plan, given({}), {"temperature": temperature}),
                (explain, given({"plan": plans}), {"temperature": text_temperature})]
    if system.map or system.heading != "compass":
        programs.append((perceive, _seen(system.map or VIEW_SIZE), {}))
    for fn, inputs, defaults in (entry for entry in programs if entry[0].__name__ in only):
        with _without_source_locations():
            exported = export.export(jax.jit(_flat(system, fn)), platforms=PLATFORMS)(shapes, inputs)
        outputs = jax.tree.unflatten(exported.out_tree, exported.out_avals)
        name, file = fn.__name__, f"programs/{fn.__name__}.stablehlo"
        files[file] = bytes(exported.serialize())
        described[name] = {
            "file": file, "inputs": _describe(inputs), "outputs": _describe(outputs), "defaults": defaults}
    signature = {"jax": jax.__version__, "platforms": PLATFORMS, "programs": described}
    files["programs/signature.json"] = (json.dumps(signature, indent=2) + "\n").encode()
    files["programs/flatbuffers.zip"] = _flatbuffers()
    return files


@contextmanager
def _without_source_locations() -> Iterator[None]:
    """Programs keep the names of modules, not the paths of the machine that wrote them: same agent, same bytes."""
    name = "jax_traceback_in_locations_limit"
    before = getattr(jax.config, name)
    jax.config.update(name, 0)
    try:
        yield
    finally:
        jax.config.update(name, before)


def _flat(system: System, fn: Callable[..., Arrays]) -> Callable[[Arrays, Arrays], Arrays]:
    """`fn` of parameters by flat name; of several actors, it is the first that plans and explains."""

    def program(params: Arrays, inputs: Arrays) -> Arrays:
        return fn(system, actor_view(unflatten(params)), inputs)

    program.__name__ = fn.__name__
    return program


def _key(inputs: Arrays) -> jnp.ndarray:
    return jax.random.wrap_key_data(inputs["seed"], impl="threefry2x32")


def _context(system: System, params: Params, inputs: Arrays) -> Context:
    sensed = {"view": inputs["view"], "direction": inputs["direction"]}
    z1 = encode_start(system, params, sensed)[0]
    return system.net(params, sensed, z1, inputs["mission"], method="context")


def _inputs(view: tuple[int, ...], mission_length: int, extra: Arrays) -> Arrays:
    """Shapes of a program's inputs; `extra` has a batch axis of any size, which the symbol b replaces."""
    (b,) = export.symbolic_shape("b")
    shape = jax.ShapeDtypeStruct
    return {
        "view": shape((b, *view), jnp.uint8), "direction": shape((b,), jnp.int32),
        "mission": shape((b, mission_length), jnp.int32),
        "seed": shape((2,), jnp.uint32), "temperature": shape((), jnp.float32),
        **jax.tree.map(lambda x: shape((b, *x.shape[1:]), x.dtype), extra),
    }  # fmt: skip


def _seen(size: int) -> Arrays:
    """Shapes of what `perceive` reads; the action is -1 where there was none yet."""
    (b,) = export.symbolic_shape("b")
    cells = lambda n: jax.ShapeDtypeStruct((b, n, n, 3), jnp.uint8)  # noqa: E731
    number, pair = jax.ShapeDtypeStruct((b,), jnp.int32), jax.ShapeDtypeStruct((b, 2), jnp.int32)
    return {"known": {"cells": cells(size), "first": number, "direction": number, "place": pair},
            "view": cells(VIEW_SIZE), "direction": number, "action": number}


def _describe(tree: Any) -> Any:
    leaf = lambda x: {"dtype": x.dtype.name, "shape": [n if isinstance(n, int) else str(n) for n in x.shape]}  # noqa: E731
    return jax.tree.map(leaf, tree)


def _flatbuffers() -> bytes:
    """The package that jax reads programs with, importable from a zip: jax does not bring it along, so the export does."""
    package = resources.files("flatbuffers")
    modules = sorted((item for item in package.iterdir() if item.name.endswith(".py")), key=lambda item: item.name)
    return zip_bytes({f"flatbuffers/{item.name}": item.read_bytes() for item in modules})
