"""What experts aim at: as the simulator has it; how it is pointed at; and that habits learn it."""

import sys
from pathlib import Path

import gymnasium as gym
import jax
import jax.numpy as jnp
import minigrid  # noqa: F401  (registers the levels)
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
import tiny  # noqa: E402

from hjepa_gfn.exemplary.bot import BoundedBot  # noqa: E402
from hjepa_gfn.models.context import Aim, neighbours  # noqa: E402
from hjepa_gfn.objectives.aims import UNKNOWN, aims_of  # noqa: E402
from hjepa_gfn.objectives.em import habit_loss  # noqa: E402
from hjepa_gfn.worlds.babyai import DONE, DROP, FORWARD, PICKUP, TOGGLE, reset_env  # noqa: E402

W = 24


def episode(level, seed, rng, bumps=0.0):
    """An expert's episode, cut to W actions: the simulator, a window of one row, and for each step the agent's place, direction
    and front cell and the cells with a thing by the simulator. With probability `bumps` it first walks into what is ahead."""
    env = gym.make(level).unwrapped
    reset_env(env, seed)
    bot, plan = BoundedBot(env), []
    while (move := bot.act()[0]) != DONE and len(plan) < W:
        plan.append(move)
        bot.take(move)
    reset_env(env, seed)  # once more, with the simulator alone
    action, views, poses = [], [], []

    def look():
        views.append(env.gen_obs()["image"])
        things = {(x, y) for x in range(env.width) for y in range(env.height)
                  if env.grid.get(x, y) is not None and env.grid.get(x, y).type in ("ball", "box", "key", "door")}
        poses.append((tuple(env.agent_pos), env.agent_dir, tuple(env.front_pos), things))

    for move in plan:
        ahead = env.grid.get(*env.front_pos)
        bump = rng.random() < bumps and ahead is not None and not ahead.can_overlap()
        for taken in [FORWARD] * bump + [move]:
            look()
            action.append(taken)
            env.step(taken)
    look()
    views, poses, action = views[: W + 1], poses[: W + 1], action[:W]
    n = len(action)
    view = np.zeros((1, W + 1, 7, 7, 3), np.uint8)
    view[0, : n + 1] = np.stack(views)
    window = {"view": view, "action": np.zeros((1, W), np.int32), "clause": np.zeros((1, W), np.int32), "length": np.array([n])}
    window["action"][0, :n] = action
    window["direction"] = np.zeros((1, W + 1), np.int32)
    window["direction"][0, : n + 1] = [pose[1] for pose in poses]
    return env, window, poses


def some(cells):
    """What is known of aims [4]."""
    return {int(cell) for cell in cells if cell != UNKNOWN}


def cell_of(env, pose, front):
    """Where the simulator draws the world's cell `front` in the view from `pose`, i * 7 + j; 49 where it does not."""
    env.agent_pos, env.agent_dir = np.array(pose[0]), pose[1]
    i, j = env.get_view_coords(*front)
    return i * 7 + j if 0 <= i < 7 and 0 <= j < 7 else 49


@pytest.mark.parametrize("level", ["PutNextLocal", "GoToLocal", "UnlockLocal", "PickupDist"])
def test_the_aim_is_what_the_simulator_has_ahead_of_the_agent_when_it_handles_something_or_is_done(level):
    """And beside that cell, where something is put down: on PutNextLocal always next to a thing."""
    rng, seen, several = np.random.default_rng(0), {"none": 0, "inside": 0}, 0
    for seed in range(6):
        env, window, poses = episode(f"BabyAI-{level}-v0", seed, rng)
        n = int(window["length"][0])
        got = np.asarray(aims_of(jax.tree.map(jnp.asarray, window)))[0]
        for t in range(W):
            later = [e for e in range(t, n) if window["action"][0, e] in (PICKUP, DROP, TOGGLE)]
            end = later[0] if later else n if n < W else None
            if t >= n or end is None:
                assert some(got[t]) == set()
                continue
            _, _, front, things = poses[end]
            beside = [(front[0] + dx, front[1] + dy) for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1))]
            dropped = end < n and window["action"][0, end] == DROP
            about = [cell for cell in beside if cell in things] if dropped else []
            want = {cell_of(env, poses[t], cell) for cell in about or [front]}
            assert some(got[t]) == want, (seed, t)
            several += dropped
            seen["none" if want == {49} else "inside"] += 1
    assert seen["inside"] > 20 and (several > 10 or level != "PutNextLocal")


def test_steps_that_the_world_stops_move_nothing():
    rng, stopped = np.random.default_rng(1), 0
    for seed in range(30, 36):
        env, window, poses = episode("BabyAI-GoToLocal-v0", seed, rng, bumps=1.0)
        n = min(int(window["length"][0]), 8)
        window["length"] = np.array([n])
        stopped += sum(poses[t][0] == poses[t + 1][0] for t in range(n) if window["action"][0, t] == FORWARD)
        got = np.asarray(aims_of(jax.tree.map(jnp.asarray, window)))[0]
        later = [e for e in range(n) if window["action"][0, e] in (PICKUP, DROP, TOGGLE)]
        if not later:
            assert [some(aim) for aim in got[:n]] == [{cell_of(env, poses[t], poses[n][2])} for t in range(n)]
    assert stopped > 3


def test_a_clause_that_ends_is_an_aim_and_a_map_has_its_own_middle():
    """Two steps ahead, with which a clause ends; a turn to the right, and a step."""
    view = np.zeros((1, 6, 7, 7, 3), np.uint8)
    view[..., 0] = 1  # empty everywhere
    window = {"view": view, "action": np.array([[2, 2, 1, 2, 0]]), "clause": np.array([[0, 0, 1, 1, 1]]),
              "direction": np.array([[2, 2, 2, 3, 3, 2]]), "length": np.array([5])}
    aims = lambda w, *map: [some(aim) for aim in np.asarray(aims_of(jax.tree.map(jnp.asarray, w), *map))[0]]
    # after two steps the third cell is ahead; what follows is cut off by the window's edge
    assert aims(window) == [{3 * 7 + 3}, {3 * 7 + 4}, set(), set(), set()]
    assert aims({name: x for name, x in window.items() if name != "clause"}) == [set()] * 5
    short = {**window, "length": np.array([4])}  # now the episode ends with the step to the right
    assert aims(short) == [{3 * 7 + 3}, {3 * 7 + 4}, {5 * 7 + 6}, {3 * 7 + 4}, set()]
    maps = np.zeros((1, 6, 11, 11, 3), np.uint8)
    maps[..., 0] = 1
    assert aims({**short, "view": maps}, 11) == [{5 * 11 + 2}, {5 * 11 + 3}, {7 * 11 + 5}, {5 * 11 + 3}, set()]
    # something is put down between two things, of which one lies behind what the percepts before showed; then in the open
    put = {**window, "action": np.array([[1, 4, 2, 4, 0]]), "direction": np.array([[2, 3, 3, 3, 3, 2]]),
           "clause": np.zeros((1, 5), int), "view": view.copy()}
    put["view"][0, 1, 2, 5], put["view"][0, 1, 3, 4] = (6, 0, 0), (7, 1, 0)  # to the left of the cell ahead, and beyond it
    assert aims(put) == [{4 * 7 + 5, 5 * 7 + 6}, {2 * 7 + 5, 3 * 7 + 4}, {3 * 7 + 4}, {3 * 7 + 5}, set()]


def test_neighbours_are_the_four_cells_beside():
    cells = np.random.default_rng(0).normal(size=(2, 9, 4))
    grid, want = cells.reshape(2, 3, 3, 4), np.zeros((2, 3, 3, 4))
    for i in range(3):
        for j in range(3):
            for di, dj in ((0, 1), (1, 0), (0, -1), (-1, 0)):
                if 0 <= i + di < 3 and 0 <= j + dj < 3:
                    want[:, i, j] += grid[:, i + di, j + dj]
    np.testing.assert_allclose(neighbours(jnp.asarray(cells)), want.reshape(2, 9, 4), atol=1e-5)


def test_the_pointer_and_what_it_reads_against_numpy():
    rng = np.random.default_rng(0)
    queries, cells = rng.normal(size=(3, 2, 8)), rng.normal(size=(3, 9, 8))
    module, inputs = Aim(8), (jnp.asarray(queries, jnp.float32), jnp.asarray(cells, jnp.float32))
    params = tiny.drawn(lambda: module.init(jax.random.key(0), *inputs))
    token, logits = module.apply(params, *inputs)
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), params["params"])
    dense = lambda x, q: x @ q["kernel"] + q.get("bias", 0.0)
    centred = cells - cells.mean(-1, keepdims=True)
    seen = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6) * p["norm"]["scale"]
    beside = np.array([[abs(a // 3 - b // 3) + abs(a % 3 - b % 3) == 1 for b in range(9)] for a in range(9)], float)
    keys = dense(seen, p["key"]) + dense(np.einsum("ab,nbd->nad", beside, seen), p["around"])
    asked = queries.reshape(3, 16)
    hidden = np.asarray(jax.nn.gelu(jnp.asarray(dense(asked, p["query"]["hidden_0"]), jnp.float32)), np.float64)
    asking = dense(hidden, p["query"]["out"])
    want = np.concatenate([np.einsum("nd,nmd->nm", asking, keys) / np.sqrt(8), dense(asked, p["none"])], -1)
    share = np.exp(want - want.max(-1, keepdims=True))
    share /= share.sum(-1, keepdims=True)
    np.testing.assert_allclose(logits, want, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(token, np.einsum("nm,nmd->nd", share[:, :-1], dense(seen, p["value"])), rtol=1e-3, atol=1e-3)
    assert share[:, -1].min() < 0.5 and len(set(want[:, :-1].argmax(-1))) > 1  # cells are pointed at, and not always the same


def reference(log_p, label, weight):
    return -np.sum(weight * log_p[np.arange(len(label)), label]) / max(weight.sum(), 1.0)


@pytest.mark.parametrize("aim", [False, True])
def test_habits_learn_the_action_and_what_is_aimed_at(aim):
    system, params = tiny.system(aim=aim), tiny.params(aim=aim)
    rng = np.random.default_rng(0)
    state, mission = jnp.asarray(rng.normal(size=(5, 6)), jnp.float32), tiny.words(5, tiny.MISSION)
    action, weight = np.array([0, 2, 1, 1, 0]), np.array([1.0, 1.0, 0.0, 1.0, 1.0], np.float32)
    cell = np.full((5, 4), UNKNOWN)
    cell[0, 0], cell[2, 1], cell[3, :2], cell[4, 1:] = 3, 7, (49, 5), (12, 13, 12)  # a cell that is said twice counts once
    loss, metrics = habit_loss(params, tiny.percepts(5), state, mission, jnp.asarray(action), jnp.asarray(weight), system,
                               jnp.asarray(cell), 0.5)
    context, logits = system.net(params, tiny.percepts(5), state, mission, method="pointed")
    log_p = np.asarray(jax.nn.log_softmax(system.net(params, context, method="habit")), np.float64)
    want = reference(log_p, action, weight)
    assert (logits is not None) == aim == ("aim_nll" in metrics)
    if aim:
        assert logits.shape == (5, 50)
        z = np.asarray(logits, np.float64)
        log_q = z - np.log(np.exp(z).sum(-1, keepdims=True))
        known = (weight > 0) & (cell != UNKNOWN).any(-1)
        terms = {b: np.log(sum(np.exp(log_q[b, c]) for c in some(cell[b]))) for b in np.flatnonzero(known)}
        aimed = -np.mean(list(terms.values()))
        assert float(metrics["aim_nll"]) == pytest.approx(aimed, rel=1e-4)
        want += 0.5 * aimed
        right = [log_q[b].argmax() in some(cell[b]) for b in terms]
        assert float(metrics["aim_accuracy"]) == pytest.approx(np.mean(right), abs=1e-6)
    assert float(loss) == pytest.approx(want, rel=1e-4)
    assert float(metrics["accuracy"]) == pytest.approx(np.mean((log_p.argmax(-1) == action)[weight > 0]), abs=1e-6)


def test_habits_and_plans_read_the_aim_and_its_place_is_after_the_queries():
    system, params = tiny.system(aim=True), tiny.params(aim=True)
    context = tiny.context(2, aim=True)
    plain = tiny.context(2)
    queries = tiny.MODEL["queries"]
    assert context.tokens.shape[1] == plain.tokens.shape[1] + 1 and context.mask[:, : queries + 2].all()
    np.testing.assert_array_equal(context.mask[:, 1:], plain.mask)  # the words' padding stays where it was
    habit = lambda c: np.asarray(system.net(params, c, method="habit"))
    changed = context._replace(tokens=context.tokens.at[:, queries].add(1.0))
    after = context._replace(tokens=context.tokens.at[:, queries + 1 :].add(1.0))
    assert np.abs(habit(changed) - habit(context)).max() > 1e-3
    np.testing.assert_array_equal(habit(after), habit(context))
