"""The baseline's costs: the critic's targets in plain numpy, and the sums over all action sequences by enumeration."""
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
import tiny  # noqa: E402

from hjepa_gfn.objectives import explicit_cost as cost  # noqa: E402

SYSTEM, HIDDEN = tiny.system(), 8


def critic() -> dict:
    return tiny.drawn(lambda: cost.init_critic(SYSTEM, jax.random.key(0), HIDDEN), 5)


def test_effort_and_handling():
    np.testing.assert_array_equal(cost.intrinsic(jnp.arange(7)), [1, 1, 1, 2, 2, 2, 1])


def test_critic_loss_is_that_of_remaining_costs():
    params, window, own = tiny.params(), tiny.window([[2, 1], [3, 2, 2], []]), critic()
    window = {**window, "action": jnp.where(jnp.arange(7) < window["length"][:, None], 2 + window["action"] % 2, 0)}
    mission, key = tiny.words(3, tiny.MISSION), jax.random.key(1)
    loss, metrics = jax.jit(lambda c: cost.critic_loss(c, key, window, mission, SYSTEM, params, HIDDEN))(own)
    z = SYSTEM.level(params, window["view"], window["direction"], method="encode")
    first = {name: window[name][:, 0] for name in ("view", "direction")}
    tokens = SYSTEM.net(params, first, z[:, 0], mission, method="context").tokens[:, :2]
    features = np.asarray(tokens).reshape(3, -1)
    judge = lambda x, b: float(cost.Critic(HIDDEN).apply({"params": own}, x, features[b]))  # noqa: E731
    action = np.asarray(window["action"])
    other = (action + np.asarray(jax.random.randint(key, action.shape, 1, tiny.ACTIONS))) % tiny.ACTIONS
    assert (other != action % tiny.ACTIONS).all()
    own_part, other_part, margins = [], [], []
    for b, length in enumerate(np.asarray(window["length"])):
        effort = [1 + (3 <= a < 6) for a in action[b, :length]]
        for t in range(length + 1 if length else 0):
            own_part.append((judge(z[b, t], b) - sum(effort[t:])) ** 2)
        for t in range(length):
            astray = SYSTEM.level(params, z[b, t], jnp.asarray(other[b, t]), method="predict", level=1)
            other_part.append((judge(astray, b) - sum(effort[t:]) - (1 + (3 <= other[b, t] < 6))) ** 2)
            margins.append(judge(astray, b) - judge(z[b, t + 1], b))
    np.testing.assert_allclose(loss, np.mean(own_part) + np.mean(other_part), rtol=1e-4)
    np.testing.assert_allclose(metrics["error"], np.sqrt(np.mean(own_part)), rtol=1e-4)
    np.testing.assert_allclose(metrics["margin"], np.mean(margins), rtol=1e-3, atol=1e-4)


def test_costs_of_sequences_are_effort_and_the_critic_at_their_end():
    params, own, rng = tiny.params(), critic(), np.random.default_rng(0)
    z = jnp.asarray(rng.normal(size=(2, 6)), jnp.float32)
    features = jnp.asarray(rng.normal(size=(2, 32)), jnp.float32)
    plans = cost.sequences(tiny.ACTIONS, 2)
    assert plans.shape == (9, 2) and len({tuple(p) for p in plans}) == 9
    found = cost.sequence_costs(SYSTEM, params, own, z, features, jnp.asarray(plans + 2), HIDDEN)
    for b in range(2):
        for k, (first, second) in enumerate(plans + 2):
            state = z[b]
            for a in (first, second):
                state = SYSTEM.level(params, state, jnp.asarray(a), method="predict", level=1)
            want = 2 + (first >= 3) + (second >= 3) + cost.Critic(HIDDEN).apply({"params": own}, state, features[b])
            np.testing.assert_allclose(found[b, k], want, rtol=1e-4)
