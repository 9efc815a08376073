"""Batches must be a pure function of (seed, step), hold every episode equally often, and be cut where episodes are."""

import collections
from types import SimpleNamespace

import numpy as np
import pytest

from hjepa_gfn.data.pipeline import Pipeline, PipelineConfig, batch_shapes
from hjepa_gfn.errors import UserError
from hjepa_gfn.exemplary.phrases import actions_of, legs_of, parse_plan
from hjepa_gfn.worlds.heading import along
from tests.data import corpora

WINDOW, TEXT, MISSION = 5, 48, 12  # a window that many episodes outgrow


def make(split="train", seed=0, **changes):
    config = PipelineConfig(**{"batch_size": 12, "window": WINDOW, **changes})
    return Pipeline(corpora.shared(), split, corpora.shared_tokenizer(), config, seed)


@pytest.fixture(scope="module")
def pipeline():
    return make()


def flat(batch, prefix=""):
    for key, value in batch.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}/")
        else:
            yield prefix + key, value


def assert_same(a, b):
    a, b = dict(flat(a)), dict(flat(b))
    assert a.keys() == b.keys()
    for key in a:
        np.testing.assert_array_equal(a[key], b[key], err_msg=key)


def test_shapes_and_dtypes(pipeline):
    shapes = {key: (value.shape, value.dtype.name) for key, value in flat(pipeline.batch(0))}
    b, w = 12, WINDOW
    expected = {"mission": ((b, MISSION), "int32"), "index": ((b,), "int32")}
    for name in ("start", "random"):
        expected |= {
            f"{name}/view": ((b, w + 1, 7, 7, 3), "uint8"),
            f"{name}/direction": ((b, w + 1), "int32"),
            f"{name}/action": ((b, w), "int32"),
            f"{name}/segment": ((b, w), "int32"),
            f"{name}/clause": ((b, w), "int32"),
            f"{name}/length": ((b,), "int32"),
        }
    for name in ("final", "draft"):
        expected |= {
            name: ((b, TEXT), "int32"),
            f"{name}_action": ((b, w), "int32"),
            f"{name}_segment": ((b, w), "int32"),
            f"{name}_clause": ((b, w), "int32"),
            f"{name}_length": ((b,), "int32"),
        }
    assert shapes == expected
    told = dict(flat(batch_shapes(PipelineConfig(batch_size=b, window=w))))
    assert {key: (shape, np.dtype(kind).name) for key, (shape, kind) in told.items()}.items() <= expected.items()
    assert {"start/clause", "random/clause", "draft_clause", "draft_segment"} <= told.keys()


def test_batches_depend_on_seed_and_step_only(pipeline):
    late = pipeline.batch(17)
    for step in (3, 0, 17):
        pipeline.batch(step)
    assert_same(late, pipeline.batch(17))
    assert_same(late, make().batch(17))
    assert not np.array_equal(late["index"], make(seed=1).batch(17)["index"])
    assert not np.array_equal(late["index"], pipeline.batch(17 + len(pipeline))["index"])  # reshuffled every pass


def test_every_pass_holds_every_episode_once(pipeline):
    for epoch in range(2):
        steps = range(epoch * len(pipeline), (epoch + 1) * len(pipeline))
        index = np.concatenate([pipeline.batch(step)["index"] for step in steps])
        assert sorted(index.tolist()) == list(range(corpora.N_TRAIN))


@pytest.mark.parametrize("num_shards", [2, 3, 4])
def test_shards_add_up_to_the_batch(pipeline, num_shards):
    whole = dict(flat(pipeline.batch(5)))
    shards = [dict(flat(pipeline.batch(5, shard, num_shards))) for shard in range(num_shards)]
    for key, value in whole.items():
        np.testing.assert_array_equal(np.concatenate([shard[key] for shard in shards]), value, err_msg=key)
    first_and_last = dict(flat(pipeline.batch(5, (0, num_shards - 1), num_shards)))
    for key, value in first_and_last.items():
        np.testing.assert_array_equal(np.concatenate([shards[0][key], shards[-1][key]]), value, err_msg=key)


def test_windows_are_pieces_of_their_episodes(pipeline):
    store, lengths, starts = pipeline.store, collections.Counter(), collections.Counter()
    for step in range(30):
        batch = pipeline.batch(step)
        for row, episode in enumerate(batch["index"]):
            first, steps = store.offset[episode], store.steps[episode]
            for name in ("start", "random"):
                window = {key: value[row] for key, value in batch[name].items()}
                n = int(window["length"])
                lengths[n] += 1
                candidates = [0] if name == "start" else range(max(int(steps), 1))
                found = [t for t in candidates if holds(store, window, first + t, n, int(steps) - t)]
                assert found
                if name == "random" and len(found) == 1:
                    starts[found[0] > 0] += 1
    assert lengths[0] and lengths[WINDOW] and lengths[1]
    assert starts[True] > 50


def holds(store, window, start, n, left):
    """Whether a window is what the store holds from `start` on, and zero after its end."""
    beyond = [window[key][n + extra :] for key, extra in dict(view=1, direction=1, action=0, segment=0, clause=0).items()]
    return (
        n == min(WINDOW, left)
        and (window["view"][: n + 1] == store.view[start : start + n + 1]).all()
        and (window["direction"][: n + 1] == store.direction[start : start + n + 1]).all()
        and (window["action"][:n] == store.action[start : start + n]).all()
        and (window["segment"][:n] == store.segment[start : start + n] - store.segment[start]).all()
        and (window["clause"][:n] == store.clause[start : start + n] - store.clause[start]).all()
        and not any(values.any() for values in beyond)
    )


def test_random_windows_are_uniform_over_the_episode(pipeline):
    episode = int(np.argmax(pipeline.store.steps))
    steps = int(pipeline.store.steps[episode])
    draws = np.random.default_rng(0).random(4000)
    index = np.full(len(draws), episode)
    batch = pipeline._assemble(index, draws, draws)
    left = np.minimum(steps - (draws * steps).astype(int), WINDOW)
    np.testing.assert_array_equal(batch["random"]["length"], left)
    assert batch["random"]["length"].min() == 1


def test_texts_and_their_plans(pipeline):
    tokenizer, store = corpora.shared_tokenizer(), pipeline.store
    for step in range(len(pipeline)):
        batch = pipeline.batch(step)
        for row, episode in enumerate(batch["index"]):
            assert tokenizer.decode_text(batch["mission"][row]) == store.mission[episode]
            drafts = store.drafts[episode]
            for name, texts in (("final", [store.final[episode]]), ("draft", drafts or [store.final[episode]])):
                decoded = tokenizer.decode_text(batch[name][row])
                text = next(text for text in texts if text.startswith(decoded))
                plan = parse_plan(text) if name == "final" or drafts else []
                legs = [leg for leg, actions in enumerate(legs_of(plan)) for _ in actions][:WINDOW]
                clauses = [i for i, clause in enumerate(plan) for leg in clause.legs for _ in leg][:WINDOW]
                actions = actions_of(plan)[:WINDOW]
                n = len(actions)
                assert batch[f"{name}_length"][row] == n
                assert batch[f"{name}_action"][row].tolist() == actions + [0] * (WINDOW - n)
                assert batch[f"{name}_segment"][row].tolist() == legs + [0] * (WINDOW - n)
                assert batch[f"{name}_clause"][row].tolist() == clauses + [0] * (WINDOW - n)
    assert [] in store.drafts and any(len(drafts) > 1 for drafts in store.drafts)


def test_all_drafts_are_drawn(pipeline):
    seen = collections.defaultdict(set)
    for step in range(len(pipeline) * 30):
        batch = pipeline.batch(step)
        for episode, draft in zip(batch["index"], batch["draft"]):
            seen[int(episode)].add(draft.tobytes())
    counts = np.array([max(len(episode), 1) for episode in pipeline.store.drafts])
    assert np.mean([len(seen[i]) == count for i, count in enumerate(counts)]) > 0.95


def test_final_text_and_trajectory_agree(pipeline):
    batch = pipeline.batch(0)
    executed = batch["start"]["length"] > 0
    assert executed.any()
    for key in ("action", "segment", "clause", "length"):
        np.testing.assert_array_equal(batch[f"final_{key}"][executed], batch["start"][key][executed])


def test_epoch_is_in_order_and_masks_what_fills_it_up():
    pipeline = make(split="validation", batch_size=4)
    batches = list(pipeline.epoch())
    assert len(batches) == len(pipeline) == 3
    mask = np.concatenate([batch["mask"] for batch in batches])
    index = np.concatenate([batch["index"] for batch in batches])
    assert mask.dtype == bool and index[mask].tolist() == list(range(corpora.N_VALIDATION)) and (~mask).sum() == 2
    tokenizer = corpora.shared_tokenizer()
    for batch in batches:
        for episode, draft in zip(batch["index"], batch["draft"]):
            first = (pipeline.store.drafts[episode] or [pipeline.store.final[episode]])[0]
            assert first.startswith(tokenizer.decode_text(draft))
    for first, second in zip(batches, pipeline.epoch()):
        assert_same(first, second)


def test_batches_larger_than_the_split_work():
    batch = make(split="validation", batch_size=25).batch(0)
    assert np.bincount(batch["index"], minlength=10).min() >= 2


def test_truncation_is_counted():
    assert make(text_length=128).truncated == 0
    assert make(text_length=10).truncated > 60


def test_bad_sizes_are_refused(pipeline):
    for shard, num_shards in ((0, 5), (2, 2), (-1, 2)):
        with pytest.raises(UserError, match="batch_size=12"):
            pipeline.batch(0, shard, num_shards)
    with pytest.raises(UserError, match="window=0"):
        make(window=0)
    with pytest.raises(UserError, match="text_length=2"):
        make(text_length=2)


def test_any_object_with_the_sizes_is_a_config():
    config = SimpleNamespace(batch_size=2, window=3, text_length=9, mission_length=4)
    batch = Pipeline(corpora.shared(), "validation", corpora.shared_tokenizer(), config, 0).batch(0)
    assert batch["final"].shape == (2, 9) and batch["start"]["view"].shape == (2, 4, 7, 7, 3)


def test_maps_hold_what_the_whole_episode_showed_before():
    """Windows cut from the middle of an episode show what was seen before they begin."""
    from hjepa_gfn.worlds.egocentric_map import remember

    mapped, plain = make(map=13), make()
    shapes = batch_shapes(PipelineConfig(batch_size=12, window=WINDOW, map=13))
    assert shapes["random"]["view"][0] == (12, WINDOW + 1, 13, 13, 3)
    store, batch, views = plain.store, mapped.batch(3), plain.batch(3)
    more = 0
    for row in range(12):
        i, n = batch["index"][row], batch["random"]["length"][row]
        first, steps = store.offset[i], store.steps[i]
        view, action = store.view[None, first : first + steps + 1], store.action[None, first : first + steps]
        whole = np.asarray(remember(view, action, 13))[0]
        found, shown = batch["random"]["view"][row], views["random"]["view"][row]
        begins = [s for s in range(steps + 1) if np.array_equal(whole[s : s + n + 1], found[: n + 1])]
        assert begins and not found[n + 1 :].any()
        more += (found[..., 0] > 0).sum() > (shown[..., 0] > 0).sum()
        np.testing.assert_array_equal(found[: n + 1, 6, 6], shown[: n + 1, 3, 6])
    assert more > 6
    with pytest.raises(UserError, match="data.map=8"):
        make(map=8)


def test_directions_can_be_turns_since_the_episode_began():
    """Windows from the middle of an episode too count from its first percept."""
    turning, plain = make(heading="turned"), make()
    store, batch, compass = plain.store, turning.batch(3), plain.batch(3)
    first = store.direction[store.offset[batch["index"]]]
    for name in ("start", "random"):
        seen = np.arange(WINDOW + 1) <= batch[name]["length"][:, None]
        want = np.where(seen, (compass[name]["direction"] - first[:, None]) % 4, 0)
        np.testing.assert_array_equal(batch[name]["direction"], want)
    assert not batch["start"]["direction"][:, 0].any() and batch["random"]["direction"][:, 0].any()
    with pytest.raises(UserError, match="data.heading='north'"):
        make(heading="north")


def test_percepts_can_say_where_cells_lie_from_where_the_mission_was_given():
    """Each episode counts from its own first percept, windows from its middle too."""
    for size in (9, 0):
        making, plain = make(heading="placed", map=size), make(map=size)
        store, raw = making.store, plain.store
        for i in range(len(store)):
            rows = slice(store.offset[i], store.offset[i] + store.steps[i] + 1)
            seen, action = (raw.view[None, rows], raw.direction[None, rows]), raw.action[None, rows][:, :-1]
            view, turns = along(*seen, action, "placed", size)
            np.testing.assert_array_equal(store.view[rows], view[0])
            np.testing.assert_array_equal(store.direction[rows], turns[0])
    own = lambda view, cell: view[:, cell[0], cell[1], 3]  # noqa: E731
    assert (own(store.view[store.offset], (3, 6)) == 4).all() and len(np.unique(own(store.view, (3, 6)))) > 2
    np.testing.assert_array_equal(making.batch(3)["random"]["view"][..., :3], plain.batch(3)["random"]["view"])
    shapes = batch_shapes(PipelineConfig(heading="placed", map=9))
    assert shapes["start"]["view"][0][2:] == (9, 9, 4)


def test_initial_worlds_are_those_of_the_exemplary_episodes():
    """Each row's world is what the simulator makes of the seed of one of the first episodes, beside that episode's actions."""
    from hjepa_gfn.worlds.babyai import make_env
    from hjepa_gfn.worlds.exploring import initial_world

    sizes = dict(worlds=6, world_size=22)
    with_worlds = make(**sizes)
    batch, plain = with_worlds.batch(4), make().batch(4)
    world = batch.pop("world")
    assert_same(batch, plain)
    told = batch_shapes(PipelineConfig(batch_size=12, window=WINDOW, **sizes))["world"]
    assert {name: (leaf.shape, leaf.dtype) for name, leaf in world.items()} == {
        name: (shape, np.dtype(kind)) for name, (shape, kind) in told.items()}
    parts = [with_worlds.batch(4, shard, 3)["world"] for shard in range(3)]
    assert_same({k: np.concatenate([part[k] for part in parts]) for k in world}, world)
    assert not all(np.array_equal(world[k], with_worlds.batch(5)["world"][k]) for k in world)
    store = with_worlds.store
    grids = {initial_world(make_env(store.level[i]), store.seed[i], (22, 22)).grid.tobytes(): i for i in range(6)}
    rows = [grids[grid.tobytes()] for grid in world["grid"]]
    assert len(set(rows)) > 2
    for row, i in enumerate(rows):
        state = initial_world(make_env(store.level[i]), store.seed[i], (22, 22))
        assert np.array_equal(state.position, world["position"][row]) and state.direction == world["heading"][row]
        n, first = int(world["length"][row]), store.offset[i]
        assert n == min(WINDOW, store.steps[i])
        assert world["action"][row].tolist() == store.action[first : first + n].tolist() + [0] * (WINDOW - n)
    with pytest.raises(UserError, match="data.world_size=3"):
        make(worlds=6, world_size=3)
