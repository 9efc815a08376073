"""Episodes that begin where an agent has gone astray: states of the simulator, the same for all who ask by the seed."""
import numpy as np
import pytest

from hjepa_gfn.exemplary import ExemplaryActor, bot
from hjepa_gfn.exemplary.phrases import actions_of, parse_plan
from hjepa_gfn.worlds import make_world
from hjepa_gfn.worlds.astray import LONGEST, begun
from hjepa_gfn.worlds.babyai import DROP, LEFT, PICKUP, RIGHT, make_env, reset_env
from hjepa_gfn.worlds.exploring import initial_worlds
from hjepa_gfn.worlds.jitted import batch_of
from hjepa_gfn.worlds.jitted import percept as jitted_percept
from hjepa_gfn.worlds.seeds import ASTRAY, in_split, split_seeds

SEEDS = range(60)


def pose(env):
    return (*map(int, env.agent_pos), int(env.agent_dir), env.carrying and (env.carrying.type, env.carrying.color))


def test_they_belong_to_the_split_of_the_episode_that_they_go_on_with():
    for split in ("train", "validation", "test"):
        for other in ("train", "validation", "test"):
            assert all(in_split(seed + shift, other) == (split == other)
                       for seed in split_seeds(split, 5, 3) for shift in (0, ASTRAY))


@pytest.mark.parametrize("level", ["BabyAI-PutNextLocal-v0", "BabyAI-GoToSeqS5R2-v0", "BabyAI-UnlockLocal-v0"])
def test_an_episode_goes_on_from_a_few_actions_of_its_own(level):
    env, other = make_env(level), make_env(level)
    moved = held = 0
    for seed in SEEDS:
        plain = reset_env(other, seed)
        view = reset_env(env, ASTRAY + seed)
        assert view["mission"] == plain["mission"] and env.step_count == 0 and not begun(env.instrs)
        walls = lambda e: [thing is not None and thing.type == "wall" for thing in e.grid.grid]  # noqa: E731
        assert walls(env) == walls(other)
        there, before, mission = pose(env), pose(other), env.instrs
        moved += there != before
        held += env.carrying is not None
        assert abs(there[0] - before[0]) + abs(there[1] - before[1]) <= LONGEST
        reset_env(other, ASTRAY + seed)
        assert pose(other) == there, "a function of the seed alone"
        np.testing.assert_array_equal(other.gen_obs()["image"], view["image"])
        # what comes next is judged as ever: nothing that went before has ended or begun the mission
        _, _, terminated, truncated, _ = env.step(LEFT)
        assert not truncated and mission is env.instrs
    assert moved > 0.9 * len(SEEDS) and held > 3


def test_walks_stop_before_they_fulfil_the_mission():
    env, cut = make_env("BabyAI-GoToLocal-v0"), 0
    for seed in range(80):
        taken, resets, step, reset = [], [], env.step, env.reset
        env.step = lambda action, taken=taken, step=step: taken.append(int(action)) or step(action)
        env.reset = lambda resets=resets, taken=taken, reset=reset, **how: resets.append(len(taken)) or reset(**how)
        reset_env(env, ASTRAY + seed)
        del env.step, env.reset
        there = pose(env)
        if len(resets) > 1:  # the walk with the step too much, and again without it
            cut += 1
            walk = taken[: resets[1]]
            assert taken[resets[1] :] == walk[:-1]
            reset_env(env, seed)
            ended = [env.step(action)[2] for action in walk]
            assert ended == [False] * (len(walk) - 1) + [True]
            reset_env(env, seed)
            for action in walk[:-1]:
                env.step(action)
            assert pose(env) == there
    assert cut > 5


def test_all_who_begin_an_episode_by_its_seed_see_the_same():
    level, seeds = "BabyAI-PutNextLocal-v0", [ASTRAY + seed for seed in range(12)]
    seen = make_world(level, 12).reset(seeds).percept
    grids = batch_of(initial_worlds(level, seeds))
    np.testing.assert_array_equal(np.asarray(jitted_percept(grids)["view"]), seen["view"])
    actor = ExemplaryActor(level)
    for row, seed in enumerate(seeds):
        trace = actor.trace(seed, "train")
        if trace:
            np.testing.assert_array_equal(trace.trajectory.view[0], seen["view"][row])
            assert trace.situation.seed == seed


def test_what_is_held_is_put_down_first_where_it_has_no_use_and_put_where_it_belongs_where_it_has():
    level, cases = "BabyAI-PutNextLocal-v0", {"empty": [], "useless": [], "wanted": []}
    actor, env, at_once = ExemplaryActor(level), make_env(level), 0
    for seed in range(160):
        reset_env(env, ASTRAY + seed)
        held = env.carrying
        is_one = bot._fits(held, env.instrs, "desc_move")
        kind = "empty" if held is None else "wanted" if is_one else "useless"
        trace = actor.trace(ASTRAY + seed, "train")
        cases[kind].append(trace is not None)
        actions = actions_of(parse_plan(trace.versions[-1].text)) if trace else []
        if trace and kind == "useless":
            assert actions.index(DROP) < actions.index(PICKUP)
            at_once += set(actions[: actions.index(DROP)]) <= {LEFT, RIGHT}
        if trace and kind == "wanted":
            assert actions[-1] == DROP
            cases.setdefault("carried straight there", []).append(PICKUP not in actions)
    assert at_once > 0.8 * len(cases["useless"]), "wherever there is room"
    assert np.mean(cases["empty"]) == 1 and np.mean(cases["useless"]) > 0.9 and len(cases["useless"]) > 8
    assert len(cases["wanted"]) > 1 and all(cases["wanted"]) and all(cases["carried straight there"])
