"""Model predictive path integral control (Williams et al. 2017), on the elites, as JEPA planners use it. Pure functions.

    plans ~ N(mu, diag sigma^2);  of the E cheapest, w ~ exp((c_min - c) / (tau std c));  mu, sigma^2 <- weighted mean, variance
With tau = inf it is the cross-entropy method, which EB-JEPA's temperature comes near to: 0.005 times costs of some 100.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from hjepa_gfn.errors import UserError


@dataclasses.dataclass(frozen=True)
class Mppi:
    """Settings of the planner."""

    knots: int = 8            # actions of a plan
    hold: int = 2             # steps that each is held for, in thought and when acting: a plan looks knots * hold steps ahead
    samples: int = 256
    elites: int = 16
    iterations: int = 2
    temperature: float = 1.0  # tau, in standard deviations of the elites' costs
    std: float = 2.4          # of the first samples
    least_std: float = 0.2
    colour: float = 0.5       # correlation of the samples' noise between neighbouring knots
    longest: float = 3.6      # length that an action is cut to
    replan: int = 1           # actions of a plan that are taken before it looks and plans again
    warm: bool = True         # whether a search begins at the rest of the plan before, or at rest
    squared: bool = False     # whether the cost is the mean squared distance, or the distance

    def __post_init__(self) -> None:
        if not 1 <= self.replan <= self.knots:
            raise UserError(f"plan.replan={self.replan}: must lie within 1 and plan.knots={self.knots}")

    @property
    def horizon(self) -> int:
        """Steps that a plan looks ahead."""
        return self.knots * self.hold


def cut(action: jnp.ndarray, longest: float) -> jnp.ndarray:
    """Actions [..., A] no longer than `longest`, in their direction."""
    return action * jnp.minimum(1.0, longest / jnp.maximum(jnp.linalg.norm(action, axis=-1, keepdims=True), 1e-9))


def wander(key: jnp.ndarray, shape: tuple[int, int, int], colour: float) -> jnp.ndarray:
    """Standard normal noise [N, K, A], correlated by colour^d between knots d apart: plans that lead somewhere."""
    fresh = jax.random.normal(key, shape)
    if colour == 0.0:
        return fresh  # without a loop over knots, which a GPU would wait for

    def follow(last: jnp.ndarray, new: jnp.ndarray) -> tuple[jnp.ndarray, jnp.ndarray]:
        now = colour * last + jnp.sqrt(1.0 - colour**2) * new
        return now, now

    rest = jax.lax.scan(follow, fresh[:, 0], jnp.swapaxes(fresh[:, 1:], 0, 1))[1]
    return jnp.concatenate([fresh[:, :1], jnp.swapaxes(rest, 0, 1)], 1)


def mppi(key: jnp.ndarray, mean: jnp.ndarray, cost: Callable[[jnp.ndarray], jnp.ndarray], settings: Mppi) -> jnp.ndarray:
    """The best plan [knots, A] met. mean [knots, A]: where the search begins; cost: plans [N, knots, A] -> [N].

    The best plan so far (at first `mean`) and staying where one is are among the samples of every iteration.
    """
    kept = cut(mean, settings.longest)
    rest = jnp.zeros_like(mean)

    def improve(carry: tuple[jnp.ndarray, ...], key: jnp.ndarray) -> tuple[tuple[jnp.ndarray, ...], None]:
        mean, std, best = carry
        noise = wander(key, (settings.samples - 2, *mean.shape), settings.colour)
        plans = jnp.concatenate([best[None], rest[None], cut(mean + std * noise, settings.longest)])
        costs, order = jax.lax.top_k(-cost(plans), settings.elites)
        elites, costs = plans[order], -costs
        share = jax.nn.softmax((costs[0] - costs) / (settings.temperature * jnp.maximum(costs.std(), 1e-9)))
        mean = jnp.einsum("e,eka->ka", share, elites)
        std = jnp.sqrt(jnp.einsum("e,eka->ka", share, (elites - mean) ** 2))
        return (mean, jnp.maximum(std, settings.least_std), elites[0]), None

    first = (kept, jnp.full_like(mean, settings.std), kept)
    return jax.lax.scan(improve, first, jax.random.split(key, settings.iterations))[0][2]


def path_cost(
    advance: Callable[[jnp.ndarray, jnp.ndarray], jnp.ndarray], start: jnp.ndarray, goal: jnp.ndarray, hold: int,
    squared: bool = False,
) -> Callable[[jnp.ndarray], jnp.ndarray]:
    """The cost of plans: the distance to the goal, summed over all steps on the way (EB-JEPA's planning cost).

        c(a) = sum_{t=1..K hold} |s_t - g|,   s_0 = start, s_{t+1} = advance(s_t, a_{t // hold})
    or, squared (EB-JEPA's code), with mean_d (s_td - g_d)^2 in place of |s_t - g|.

    advance: states [N, D], actions [N, A] -> states [N, D]; start, goal [D]. Returns plans [N, K, A] -> [N].
    """

    apart = (lambda d: jnp.mean(d**2, -1)) if squared else (lambda d: jnp.linalg.norm(d, axis=-1))

    def cost(plans: jnp.ndarray) -> jnp.ndarray:
        def knot(carry: tuple[jnp.ndarray, jnp.ndarray], action: jnp.ndarray) -> tuple[tuple[jnp.ndarray, jnp.ndarray], None]:
            state, total = carry
            for _ in range(hold):
                state = advance(state, action)
                total += apart(state - goal)
            return (state, total), None

        n = len(plans)
        begin = (jnp.broadcast_to(start, (n, *start.shape)), jnp.zeros(n))
        return jax.lax.scan(knot, begin, jnp.swapaxes(plans, 0, 1))[0][1]

    return cost


# facebookresearch/eb_jepa, `cfgs/planning_mppi.yaml`, and what its `MPPIPlanner` makes of it: `var_scale` is not read, the
# standard deviation is 2. Lengths are not cut there (here at its `max_norms`), and it acts on one of the last elites, drawn by
# weight (here on the best plan met).
PUBLISHED_MPPI = Mppi(
    knots=90, hold=1, samples=200, elites=20, iterations=20, temperature=100.0, std=2.0, least_std=0.0, colour=0.0,
    longest=2.45, warm=False, squared=True)
