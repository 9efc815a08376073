"""Meshes and sharding rules: the same jitted code on one CPU core and on a TPU pod."""

from hjepa_gfn.distributed.mesh import AXES, BATCH_AXES, batch_sharding, host_shards, make_mesh, put_batch, replicated
from hjepa_gfn.distributed.sharding import ShardingRules, constrain, in_groups, param_shardings, unbox, use_mesh
from hjepa_gfn.distributed.steps import abstract_state, init_state, jit_step

__all__ = [
    "AXES",
    "BATCH_AXES",
    "ShardingRules",
    "abstract_state",
    "batch_sharding",
    "constrain",
    "in_groups",
    "host_shards",
    "init_state",
    "jit_step",
    "make_mesh",
    "param_shardings",
    "put_batch",
    "replicated",
    "unbox",
    "use_mesh",
]
