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
    assert count_flops(jax.make_jaxpr(call)(X, W).jaxpr, kernels=False) == 0, "compiled programs do not show kernels"


@pytest.mark.parametrize(("fn", "count"), [
    (lambda x, w: x @ w, 1), (scanned, 5), (early, 7), (lambda x, w: jax.vmap(early, (0, None))(x[:, None], w), 7)])
def test_compiled_programs_say_the_same(fn, count):
    assert compiled_flops(jax.jit(fn).lower(X, W).compile().as_text()) == count * ONE


# As the TPU compiler writes loops of batched counters (shortened): the reducer's constants are none of the bound.
BATCHED_COUNTER = """HloModule jit_f

%either (a: u32[], b: u32[]) -> u32[] {
  %a = u32[]{:T(128)} parameter(0)
  %b = u32[]{:T(128)} parameter(1)
  %eight = u32[]{:T(128)} constant(8)
  ROOT %or = u32[]{:T(128)} or(%a, %b)
}

%cond (c: (s32[1], f32[4,8])) -> pred[] {
  %bound = s32[1]{0:T(128)} constant({128}), metadata={op_name="broadcast.1382"}
  %c = (s32[1]{0:T(128)}, f32[4,8]{1,0}) parameter(0)
  %i = s32[1]{0:T(128)} get-tuple-element(%c), index=0
  %lt = pred[1]{0} compare(%i, %bound), direction=LT
  %bits = u32[]{:T(128)} bitcast(%lt)
  %any = u32[]{:T(128)} all-reduce(%bits), channel_id=17, replica_groups=mesh['axis_0'=16] {'axis_0'}, to_apply=%either
  ROOT %go = pred[]{:T(512)} bitcast(%any)
}

%body (c.1: (s32[1], f32[4,8])) -> (s32[1], f32[4,8]) {
  %c.1 = (s32[1]{0:T(128)}, f32[4,8]{1,0}) parameter(0)
  %x = f32[4,8]{1,0} get-tuple-element(%c.1), index=1
  %w = f32[8,8]{1,0} constant({...})
  %y = f32[4,8]{1,0} convolution(%x, %w), dim_labels=bf_io->bf
  %n = s32[1]{0:T(128)} get-tuple-element(%c.1), index=0
  ROOT %out = (s32[1]{0:T(128)}, f32[4,8]{1,0}) tuple(%n, %y)
}

ENTRY %main (p: f32[4,8]) -> (s32[1], f32[4,8]) {
  %p = f32[4,8]{1,0} parameter(0)
  %zero = s32[1]{0:T(128)} constant({0})
  %begin = (s32[1]{0:T(128)}, f32[4,8]{1,0}) tuple(%zero, %p)
  ROOT %loop = (s32[1]{0:T(128)}, f32[4,8]{1,0}) while(%begin), condition=%cond, body=%body
}
"""


@pytest.mark.parametrize("bound", ["{128}", "{ {128} }"], ids=["one axis", "two, as with slices"])
def test_a_loop_of_batched_counters_runs_to_its_bound(bound):
    assert compiled_flops(BATCHED_COUNTER.replace("{128}", bound)) == 128 * ONE


@pytest.mark.parametrize(("left", "right", "out", "how", "products"), [
    # q k^T of 12 heads, 64 queries, 512 keys, 64 features; and two products in batches of other forms (TPU v5p)
    ("64,12,64", "512,12,64", "12,512,64",
     "window={size=12 stride=12 pad=11_11 lhs_dilate=11 rhs_reversal=1}, dim_labels=b0f_o0i->0fb", 12 * 64 * 512 * 64),
    ("64,12,64", "12,64,64", "12,64,64",
     "window={size=12 stride=11 lhs_dilate=12}, dim_labels=f0b_0oi->0bf", 12 * 64 * 64 * 64),
    ("2,512,12,64,1", "2,258,64,12,64", "2,12,512,258,64",
     "window={size=2x12x64 stride=1x11x1 pad=0_0x0_0x63_63 lhs_dilate=2x12x1 rhs_reversal=0x0x1}, "
     "dim_labels=0b1f2_0o21i->01bf2",
     2 * 12 * 512 * 258 * 64 * 64)])
def test_products_in_batches_that_are_written_as_convolutions(left, right, out, how, products):
    text = f"""HloModule jit_f

ENTRY %main (l: f32[{left}], r: f32[{right}]) -> f32[{out}] {{
  %l = bf16[{left}]{{2,1,0}} parameter(0)
  %r = bf16[{right}]{{2,1,0}} parameter(1)
  ROOT %c = f32[{out}]{{2,1,0}} convolution(%l, %r), {how}
}}
"""
    assert compiled_flops(text) == 2 * products


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
