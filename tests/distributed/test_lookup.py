"""Lookups in a table whose width is spread: the same rows and gradients, and neither is gathered whole."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from hjepa_gfn.distributed import ShardingRules, in_groups, make_mesh, use_mesh
from hjepa_gfn.distributed.compiled_text import collectives
from hjepa_gfn.distributed.lookup import look_up, take
from hjepa_gfn.distributed.mesh import AXES
from hjepa_gfn.distributed.slices import mean_over_slices

ENTRIES, WIDTH, GROUPS, ROWS = 96, 16, 8, 3
TABLE = jax.random.normal(jax.random.key(0), (ENTRIES, WIDTH))
IDS = jax.random.randint(jax.random.key(1), (GROUPS * ROWS, 5), -3, ENTRIES + 3)  # some are out of range
WEIGHT = jax.random.normal(jax.random.key(2), (GROUPS * ROWS, 5, WIDTH))


def loss(table, ids, weight, lookup):
    return jnp.sum(jnp.sin(lookup(table, ids)) * weight)


def by_numpy():
    """Loss and gradient in float64."""
    table, ids, weight = (np.asarray(x, np.float64) for x in (TABLE, np.clip(IDS, 0, ENTRIES - 1), WEIGHT))
    rows, gradient = table[ids.astype(int)], np.zeros((ENTRIES, WIDTH))
    np.add.at(gradient, ids.astype(int), np.cos(rows) * weight)
    return (np.sin(rows) * weight).sum(), gradient


def grouped(lookup):
    """(table, ids, weight) -> loss and gradient, by groups."""
    def total(table, ids, weight):
        keys = jax.random.split(jax.random.key(0), GROUPS)
        return in_groups(lambda _, part: loss(table, *part, lookup), keys, (ids, weight)).sum()

    return jax.value_and_grad(total)


def on_mesh(fn, mesh, rules=ShardingRules()):  # noqa: B008 (frozen)
    """`fn` compiled for the mesh, its arguments spread as in training; and what it gives."""
    batch = NamedSharding(mesh, PartitionSpec(("replica", "data", "fsdp")))
    table = NamedSharding(mesh, rules.spec(("vocab", "embed"), TABLE.shape, mesh))

    def traced(*args):
        with use_mesh(mesh, rules):
            return fn(*args)

    args = jax.device_put((TABLE, IDS, WEIGHT), (table, batch, batch))
    compiled = jax.jit(traced, out_shardings=(None, table)).lower(*args).compile()
    return compiled, compiled(*args)


@pytest.mark.parametrize("sizes", [dict(data=8), dict(fsdp=8), dict(data=2, fsdp=4), dict(data=2, fsdp=2, tensor=2)])
def test_rows_and_gradients_are_those_of_a_plain_lookup(sizes):
    value, gradient = by_numpy()
    _, found = on_mesh(grouped(look_up), make_mesh(**sizes))
    np.testing.assert_allclose(found[0], value, rtol=1e-5)
    np.testing.assert_allclose(found[1], gradient, rtol=1e-5, atol=1e-5)


def test_neither_the_table_nor_all_rows_gradients_are_gathered():
    mesh = make_mesh(data=2, fsdp=4)

    def largest(lookup):
        compiled, _ = on_mesh(grouped(lookup), mesh)
        moved = collectives(compiled.as_text(), AXES, [mesh.shape[axis] for axis in AXES])
        return max(c.bytes for c in moved if "fsdp" in c.axes)

    exchanged = 4 * GROUPS // 2 * ROWS * 5 * WIDTH // 4  # bytes: of the rows of those that share a table, a share of the width
    assert largest(look_up) <= exchanged < largest(take)


def test_outside_groups_and_without_a_mesh_it_is_a_plain_lookup():
    np.testing.assert_array_equal(look_up(TABLE, IDS), TABLE[np.clip(IDS, 0, ENTRIES - 1)])
    _, found = on_mesh(jax.value_and_grad(lambda t, i, w: loss(t, i, w, look_up)), make_mesh(data=4, fsdp=2))
    np.testing.assert_allclose(found[1], by_numpy()[1], rtol=1e-5, atol=1e-5)


def test_tables_of_groups_and_uneven_widths():
    tables = jax.random.normal(jax.random.key(3), (GROUPS, ENTRIES, 6))
    mesh, rules = make_mesh(data=2, fsdp=4), ShardingRules(uneven="whole")

    def rows(tables, ids):
        with use_mesh(mesh, rules):
            keys = jax.random.split(jax.random.key(0), GROUPS)
            own = in_groups(lambda _, part: look_up(part[0][0], part[1]), keys, (tables, ids))
            return own, in_groups(lambda _, ids: look_up(tables[0], ids), keys, ids)

    own, shared = jax.jit(rows)(tables, IDS)
    ids = np.clip(IDS, 0, ENTRIES - 1).reshape(GROUPS, ROWS, 5)
    np.testing.assert_array_equal(own, np.asarray(tables)[np.arange(GROUPS)[:, None, None], ids])
    np.testing.assert_array_equal(shared, np.asarray(tables)[0][ids])


def test_over_slices():
    mesh = make_mesh(replica=2, data=2, fsdp=2)
    value, gradient = by_numpy()

    def total(table, ids, weight):
        def one(keys, batch):
            def mean(table):
                return in_groups(lambda _, part: loss(table, *part, look_up), keys, batch).sum()

            return jax.value_and_grad(mean)(table)

        keys = jax.random.split(jax.random.key(0), GROUPS).reshape(2, GROUPS // 2)
        return mean_over_slices(one, ("vocab", "embed"), "float32", keys, (ids, weight))

    _, found = on_mesh(total, mesh)
    np.testing.assert_allclose(2 * found[0], value, rtol=1e-5)
    np.testing.assert_allclose(2 * found[1], gradient, rtol=1e-5, atol=1e-5)
