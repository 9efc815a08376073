"""A default network for flat environments: an MLP trunk whose policy heads are one matrix product."""
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from hjepa_gfn.gflownet.environment import FlatEnvironment
from hjepa_gfn.gflownet.policy import Logits

FLOWS = ("none", "constant", "head")


def dense(width: int, fan_in: int, name: str) -> nn.Dense:
    """A layer whose weights and biases begin uniform in +-1/sqrt(fan_in), as those of PyTorch and Equinox do.

    At a constant rate, policies stay closer to R/Z than with the larger He initialisation; and comparisons are between equals.
    """
    bound = fan_in**-0.5
    init = lambda key, shape, dtype=jnp.float32: jax.random.uniform(key, shape, dtype, -bound, bound)
    return nn.Dense(width, name=name, kernel_init=init, bias_init=init)


class MLPPolicy(nn.Module):
    """features [..., F] -> Logits; ReLU trunk; P_F, STOP and P_B come from one output layer.

    Attributes:
      num_actions, num_undos: A and U of the environment.
      hidden: widths of the trunk.
      backward: whether P_B is learned; False leaves it uniform over the legal undos.
      flow: "head" gives log F(z) per state; "constant" is one learned scalar for all states, which is log Z where only the
        root's flow is read (trajectory balance of an unconditional task); "none" gives no flow.
    """

    num_actions: int
    num_undos: int
    hidden: Sequence[int] = (256, 256)
    backward: bool = True
    flow: str = "constant"

    @nn.compact
    def __call__(self, features: jnp.ndarray) -> Logits:
        if self.flow not in FLOWS:
            raise ValueError(f"flow={self.flow!r}: one of {', '.join(FLOWS)}")
        x = features
        for i, width in enumerate(self.hidden):
            x = nn.relu(dense(width, x.shape[-1], f"layer_{i}")(x))
        ahead, back = self.num_actions + 1, self.num_undos if self.backward else 0
        out = dense(ahead + back, x.shape[-1], "heads")(x)
        log_flow = None
        if self.flow == "head":  # a layer of its own: it learns at its own rate (`training.adam`)
            log_flow = dense(1, x.shape[-1], "log_flow")(x)[..., 0]
        elif self.flow == "constant":
            log_flow = jnp.broadcast_to(self.param("log_flow", nn.initializers.zeros, ()), out.shape[:-1])
        return Logits(out[..., :ahead], out[..., ahead:] if self.backward else None, log_flow)


def policy_network(
    env: FlatEnvironment, hidden: Sequence[int] = (256, 256), backward: bool = True, flow: str = "constant"
) -> MLPPolicy:
    """An `MLPPolicy` of the sizes of `env`."""
    return MLPPolicy(env.num_actions, env.num_undos, tuple(hidden), backward, flow)
