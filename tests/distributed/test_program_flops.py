"""Counting matmuls in traced and in compiled programs, and what collectives move, against sums done by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import pallas as pl
from jax.sharding import NamedSharding, PartitionSpec

from hjepa_gfn.distributed import make_mesh
from hjepa_gfn.distributed.aot import stacks_of
from hjepa_gfn.distributed.compiled_text import Collective, collectives, compiled_flops, moved_by_axes, whole_stacks
from hjepa_gfn.distributed.mesh import AXES
from hjepa_gfn.distributed.program_flops import count_flops, program_flops

X, W = jax.ShapeDtypeStruct((4, 8), jnp.float32), jax.ShapeDtypeStruct((8, 8), jnp.float32)
ONE = 2 * 4 * 8 * 8


def scanned(x, w):
    return jax.lax.scan(lambda c, _: (jnp.tanh(c @ w), None), x, length=5)[0]


def early(x, w):
    """At most 7 rounds."""
    return jax.lax.while_loop(lambda c: (c[0] < 7) & (c[1].max() < 3), lambda c: (c[0] + 1, c[1] @ w), (0, x))[1]


@pytest.mark.parametrize(("fn", "count"), [
    (lambda x, w: x @ w, 1), (scanned, 5), (early, 7), (lambda x, w: jax.vmap(early, (0, None))(x[:, None], w), 7),
    (lambda x, w: scanned(x, w) @ w, 6), (lambda x, w: jax.grad(lambda w: (x @ w).sum())(w), 2),
    (lambda x, w: jax.lax.cond(x.sum() > 0, lambda: x @ w @ w, lambda: x @ w), 2)])
def test_matmuls_are_counted_as_often_as_they_run(fn, count):
    # a gradient with respect to the weights alone takes two products: forward, and one of the two backward
    assert program_flops(fn, X, W) == count * ONE


def test_a_kernel_counts_once_a_cell_of_its_grid_and_a_device_as_often_as_there_are():
    def kernel(x, w, y):
        y[...] = x[...] @ w[...]

    def call(x, w):
        return pl.pallas_call(kernel, grid=(3,), out_shape=jax.ShapeDtypeStruct((4, 8), jnp.float32), interpret=True)(x, w)

    spread = jax.shard_map(
        call, mesh=make_mesh(fsdp=8), in_specs=PartitionSpec(), out_specs=PartitionSpec(), check_vma=False)
    assert program_flops(call, X, W) == 3 * ONE and program_flops(spread, X, W) == 24 * ONE
    compilers = count_flops(jax.make_jaxpr(call)(X, W).jaxpr, once=True)
    assert compilers == 0, "compilers do not look into kernels"


@pytest.mark.parametrize(("fn", "count"), [(lambda x, w: x @ w, 1), (scanned, 5), (early, 7)])
def test_compiled_programs_say_the_same(fn, count):
    assert compiled_flops(jax.jit(fn).lower(X, W).compile().as_text()) == count * ONE


BETWEEN_SLICES = """HloModule jit_f

ENTRY %main (p: f32[32,8]) -> f32[32,8] {
  %p = f32[32,8]{1,0} parameter(0)
  %after-all = token[] after-all(), frontend_attributes={MegascaleRendezvousKeyName="all-reduce.1_0"}
  %send = (f32[32,8]{1,0}, u32[], token[]) send(%p, %after-all), channel_id=2, is_host_transfer=true, frontend_attributes={_xla_host_transfer_handler_name="xla_megascale_runtime",_xla_megascale_transfer_type="ALL_REDUCE"}
  %send-done = token[] send-done(%send), channel_id=2, is_host_transfer=true, frontend_attributes={_xla_host_transfer_handler_name="xla_megascale_runtime"}
  %recv = (f32[32,8]{1,0}, u32[], token[]) recv(%after-all), channel_id=1, is_host_transfer=true, frontend_attributes={_xla_host_transfer_handler_name="xla_megascale_runtime",_xla_megascale_transfer_type="ALL_REDUCE"}
  %recv-done = (f32[32,8]{1,0}, token[]) recv-done(%recv), channel_id=1, is_host_transfer=true
  %other = (f32[32,8]{1,0}, u32[], token[]) send(%p, %after-all), channel_id=3, is_host_transfer=true
  ROOT %out = f32[32,8]{1,0} get-tuple-element(%recv-done), index=0
}
"""  # noqa: E501  (as the TPU compiler writes it, shortened)


def test_what_slices_send_each_other_is_counted():
    (found,) = collectives(BETWEEN_SLICES, ("replica", "fsdp"), (2, 4))
    assert (found.kind, found.axes, found.bytes, found.times) == ("send", ("replica",), 32 * 8 * 4, 1)


def test_collectives_are_told_by_mesh_axis_and_counted_in_loops():
    mesh = make_mesh(replica=2, data=2, fsdp=2)
    place = lambda *spec: NamedSharding(mesh, PartitionSpec(*spec))
    x = jax.ShapeDtypeStruct((8, 64, 8), jnp.float32, sharding=place(("replica", "data", "fsdp")))
    w = jax.ShapeDtypeStruct((3, 8, 16), jnp.float32, sharding=place(None, "fsdp"))

    def step(w, x):
        def layer(x, w):
            y = jax.lax.with_sharding_constraint(x @ w, place(("replica", "data", "fsdp")))
            return jnp.tanh(y)[..., :8], None

        return jax.lax.scan(layer, x, w)[0].sum()

    text = jax.jit(jax.grad(step), out_shardings=w.sharding).lower(w, x).compile().as_text()
    found = collectives(text, AXES, [2, 2, 2, 1])
    gathers = [c for c in found if c.kind == "all-gather" and c.axes == ("fsdp",)]
    # one layer's weights, of 8 x 16 floats, forward and backward, in each of three rounds
    assert gathers and all(c.bytes == 8 * 16 * 4 and c.times == 3 and c.in_loop for c in gathers)
    assert len(gathers) == 2
    reduced = [c for c in found if c.kind in ("all-reduce", "reduce-scatter")]
    assert {axis for c in reduced for axis in c.axes} == {"replica", "data", "fsdp"}, "gradients are summed over all rows"
    assert sum(moved_by_axes(found).values()) == sum(c.bytes * c.times for c in found)


def test_groups_written_out_and_as_permutations_of_iota():
    line = "  %x.1 = f32[4]{0} all-reduce(%y), channel_id=1, replica_groups=%s, to_apply=%add"
    text = "HloModule m\n\nENTRY %main (p: f32[4]) -> f32[4] {{\n{}\n}}\n"
    for groups, axes in (("mesh['a'=2,'b'=1,'c'=4], device_ids=([4,2]T(1,0)) {'a'}", ("tensor",)),
                         ("mesh['a'=2,'c'=4] {'a'}", ("data",)), ("mesh['a'=2,'c'=4] {'c':(2)2}", ("tensor",)),
                         ("mesh['a'=2,'c'=4] {'a','c':(1)2}", ("data", "fsdp")),
                         ("{{0,1},{2,3},{4,5},{6,7}}", ("tensor",)), ("[4,2]<=[8]", ("tensor",)),
                         ("[2,4]<=[4,2]T(1,0)", ("data", "fsdp")), ("[1,8]<=[8]", ("data", "fsdp", "tensor")),
                         ("{{0,4},{1,5},{2,6},{3,7}}", ("data",))):
        found, = collectives(text.format(line.replace("%s", groups)), AXES, [1, 2, 2, 2])
        assert found.axes == axes and found.bytes == 16 and found.times == 1, groups
    pairs = "  %x.1 = f32[4]{0} collective-permute(%y), channel_id=1, source_target_pairs={{0,2},{2,0},{1,3},{3,1}}"
    found, = collectives(text.format(pairs), AXES, [1, 2, 2, 2])
    assert found.axes == ("fsdp",)


@pytest.mark.parametrize(("change", "counted"), [
    ({}, 1),
    ({"kind": "all-reduce"}, 0), ({"in_loop": True}, 0), ({"shape": (7, 64, 128)}, 0),
    ({"axes": ("data",)}, 0),                                   # a gradient whose reduction ends
    ({"axes": ("tensor", "fsdp"), "shape": (6, 64, 512)}, 1),   # the whole of it
    ({"axes": ("tensor",), "shape": (6, 4, 128)}, 0)])          # an activation
def test_what_counts_as_a_stack_that_is_gathered(change, counted):
    """A parameter [6, 64, 512] over fsdp 8 and tensor 4, brought together along fsdp: 128 columns are left on a device."""
    one = Collective("all-gather", ("fsdp",), 0.0, 1, (6, 64, 128), False)._replace(**change)
    assert whole_stacks([one], {6: 6 * 64 * 512}, {"replica": 1, "data": 2, "fsdp": 8, "tensor": 4}) == counted


def test_the_smallest_parameter_of_each_stack():
    params = {"a": {"q": np.zeros((6, 4, 8)), "up": np.zeros((6, 4, 16)), "norm": np.zeros((6, 4))}, "b": np.zeros((3, 2, 5)),
              "table": np.zeros((100, 4))}
    assert stacks_of(params, [6, 3, 9]) == {6: 192, 3: 30}
