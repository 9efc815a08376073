"""The planner: its cost against plain loops, and that it finds plans whose best is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hjepa_gfn.agent.mppi import Mppi, cut, mppi, path_cost, wander
from hjepa_gfn.errors import UserError

SETTINGS = Mppi(knots=4, hold=2, samples=256, elites=32, iterations=20, std=1.0, least_std=0.02, longest=1.5)


def test_path_cost_against_loops():
    rng = np.random.default_rng(0)
    plans, start, goal = rng.normal(size=(5, 3, 2)), rng.normal(size=2), rng.normal(size=2)
    cost = lambda squared: path_cost(lambda s, a: 0.9 * s + a, jnp.asarray(start), jnp.asarray(goal), 2, squared)
    found = jax.jit(lambda plans: (cost(False)(plans), cost(True)(plans)))(jnp.asarray(plans))
    for plan, distance, squared in zip(plans, *map(np.asarray, found)):
        state, total = start, np.zeros(2)
        for action in plan:
            for _ in range(2):
                state = 0.9 * state + action
                total += np.linalg.norm(state - goal), ((state - goal) ** 2).mean()
        assert (distance, squared) == pytest.approx(total, rel=1e-5)


def test_it_walks_straight_to_the_goal_and_stays():
    start, goal = jnp.zeros(2), jnp.array([4.0, -2.0])
    cost = path_cost(lambda s, a: s + a, start, goal, SETTINGS.hold)
    search = jax.jit(lambda key, mean: mppi(key, mean, cost, SETTINGS))
    plan = search(jax.random.key(0), jnp.zeros((4, 2)))
    # As fast as it may until it is there: 1.5 twice, then what is left, then nothing.
    way = goal / jnp.linalg.norm(goal)
    left = (jnp.linalg.norm(goal) - 3.0) / 2
    best = float(cost(jnp.stack([1.5 * way, left * way, 0 * way, 0 * way])[None])[0])
    assert best <= float(cost(plan[None])[0]) + 1e-3 < 1.15 * best
    assert float(jnp.linalg.norm(2 * plan.sum(0) - goal)) < 0.3
    # A good plan to begin with is never lost, and staying is always thought of.
    kept = search(jax.random.key(1), plan)
    assert float(cost(kept[None])[0]) <= float(cost(plan[None])[0]) + 1e-5
    home = path_cost(lambda s, a: s + a, start, start, SETTINGS.hold)
    still = jax.jit(lambda mean: mppi(jax.random.key(2), mean, home, SETTINGS))(jnp.ones((4, 2)))
    assert float(home(still[None])[0]) == 0.0


def test_more_actions_than_a_plan_has_cannot_be_taken():
    with pytest.raises(UserError, match="plan.replan=5: must lie within 1 and plan.knots=4"):
        Mppi(knots=4, replan=5)


def test_actions_are_cut_in_their_direction():
    action = jnp.array([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]])
    np.testing.assert_allclose(cut(action, 1.5), [[0.9, 1.2], [0.3, 0.4], [0.0, 0.0]], rtol=1e-6)


def test_noise_is_standard_normal_and_correlated_between_knots():
    noise = np.asarray(wander(jax.random.key(0), (20000, 5, 2), 0.6))
    assert np.abs(noise.std(0) - 1).max() < 0.03
    for apart in (1, 2, 3):
        assert np.mean(noise[:, 0, 0] * noise[:, apart, 0]) == pytest.approx(0.6**apart, abs=0.03)
    assert abs(np.mean(noise[:, 0, 0] * noise[:, 1, 1])) < 0.03
