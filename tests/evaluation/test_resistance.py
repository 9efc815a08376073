"""Fine-tuning: what moves and what stands still, that rates are arguments, and that the reader learns what it reads."""
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hjepa_gfn.errors import UserError
from hjepa_gfn.evaluation import resistance
from hjepa_gfn.evaluation.resistance import agent_tuner, reader_tuner, start_state, trajectory, tuning_config
from hjepa_gfn.objectives import train_steps
from hjepa_gfn.objectives.system import init_params, make_system
from hjepa_gfn.plans import root_plan
from tests import tiny
from tests.objectives.test_train_steps import changed, make_batch, tiny_config


@pytest.fixture(scope="module")
def config():
    return tuning_config(tiny_config(), 4, 0)


@pytest.fixture(scope="module")
def system(config):
    return make_system(config.model, 20, config.data.text_length, 7)


@pytest.fixture(scope="module")
def start(config, system):
    """An agent whose model was the last thing that it trained, so that the copy is of this encoder."""
    params = tiny.drawn(lambda: init_params(system, jax.random.key(0), config.data.mission_length))
    return start_state({**params, "target": params["encoder"]}, config)


def batch_of(config, seed=0):
    batch = make_batch(config, seed)
    batch.pop("world")
    return batch


@pytest.fixture(scope="module")
def habit(config, system):
    """The agent's tuner with the cheapest of its train steps alone: each takes half a minute to compile, or more."""
    return agent_tuner(system, config, "all", ("habit",))


def test_a_rate_of_zero_changes_nothing_and_others_what_is_trained(config, start, habit):
    batch = batch_of(config)
    same, metrics = habit(start, batch, jnp.float32(0.0))
    assert not changed(start.params, same.params) and int(same.step) == int(start.step) + 1
    assert float(metrics["habit/grad_norm"]) > 0
    new, _ = habit(start, batch, jnp.float32(1e-2))
    other, _ = habit(start, batch, jnp.float32(1e-3))
    assert changed(start.params, new.params) == changed(start.params, other.params) == {"encoder", "habit"}
    for a, b, old in zip(*(jax.tree.leaves(s.params["habit"]) for s in (new, other, start)), strict=True):
        np.testing.assert_allclose(a - old, 10 * (b - old), rtol=1e-2, atol=1e-5)


def test_the_agent_learns_by_the_steps_that_read_texts_each_once(config, system, start, monkeypatch):
    """With a registry of stand-ins: which steps are taken, in which order, at which rate; and what stands still."""
    def registry(system, config, rate_of):
        def one(number, groups):
            def step(state, batch):
                rate = rate_of(state.step, "encoder")
                change = lambda tree: {g: jax.tree.map(lambda x: x * 10 + number * rate, tree[g]) for g in groups}  # noqa: E731
                params = {**state.params, **change(state.params)}
                return state.replace(params=params, optimizer={**state.optimizer, **change(state.optimizer)}), {"loss": number}

            return step

        names = ("habit", "ground", "e_step", "m_step", "contrast", "sleep", "jepa")
        groups = {"habit": ("encoder", "habit"), "ground": ("encoder", "policy", "model"), "jepa": ("jepa",)}
        return {name: one(number, groups.get(name, ("encoder",))) for number, name in enumerate(names, 1)}

    monkeypatch.setattr(resistance, "make_train_steps", registry)
    small = start_state({group: jnp.zeros(()) for group in start.params}, config)
    tuned = {what: agent_tuner(system, config, what)(small, {}, jnp.float32(2.0))[0] for what in resistance.TUNED}
    assert {g: float(x) / 2 for g, x in tuned["all"].params.items() if x} == dict(encoder=12345, habit=1, policy=2, model=2)
    assert {g: float(x) / 2 for g, x in tuned["policy"].params.items() if x} == dict(encoder=23, policy=2)
    assert changed(small.optimizer, tuned["policy"].optimizer) == {"encoder", "policy"}


@pytest.fixture(scope="module")
def reader(config, system):
    return reader_tuner(system, config)


def test_the_reader_s_loss_is_the_likelihood_of_what_it_would_write(config, system, start, reader):
    """Word by word, as texts are sampled (`write`), in place of one pass over the text; float64 sums."""
    batch = batch_of(config)
    loss = reader(start, batch, jnp.float32(0.0))[1]["text_nll"]
    percept = {name: batch["start"][name][:, 0] for name in ("view", "direction")}

    @jax.jit
    def written(params):
        state = system.level(params, percept["view"], percept["direction"], method="encode")
        context = system.net(params, percept, state, batch["mission"], method="context")
        draft = system.net(params, root_plan(system.spec, (4,)), context, method="prepare")

        def write(draft, word):
            log_p, draft = system.net(params, draft, *word, method="write")
            return draft, log_p

        words = jnp.asarray(batch["final"].T[:-1])
        return jnp.moveaxis(jax.lax.scan(write, draft, (words, jnp.arange(len(words))))[1], 0, 1)

    log_p, words = np.asarray(written(start.params), np.float64), batch["final"][:, 1:]
    picked = np.take_along_axis(log_p, words[..., None], -1)[..., 0]
    assert (words == 0).any()
    assert float(loss) == pytest.approx(-picked[words > 0].sum() / (words > 0).sum(), rel=1e-4)


def test_the_reader_learns_the_text_it_is_tuned_on(config, start, reader):
    batch = batch_of(config)
    one = {**batch, "final": np.tile(batch["final"][:1], (4, 1))}
    states = {rate: list(trajectory(start, reader, lambda step: one, rate, (0, 1, 6))) for rate in (0.0, 1e-2)}
    assert [number for number, _, _ in states[0.0]] == [0, 1, 6] and states[0.0][0][1] is start
    assert not changed(start.params, states[0.0][-1][1].params)
    tuned = states[1e-2][-1][1]
    assert changed(start.params, tuned.params) == {"encoder", "model", "target"}
    assert changed(start.params["model"], tuned.params["model"]) == {"explainer_out"}, "a text says nothing of energies"
    before, after = (states[1e-2][i][2]["text_nll"] for i in (1, 2))
    assert after < before - 0.2 and states[0.0][1][2]["text_nll"] == pytest.approx(before)
    assert states[0.0][2][2]["text_nll"] == pytest.approx(before, rel=1e-5)


def counted():
    """A toy: what is learned is a list of the batches, in order, times the rate."""
    state = lambda x: SimpleNamespace(params={"x": np.asarray(x, float)})  # noqa: E731
    return state([]), lambda now, batch, rate: (state([*now.params["x"], batch * float(rate)]), {"last": np.float32(batch)})


def test_a_point_is_the_same_wherever_else_one_looks():
    start, tuner = counted()
    at = lambda *steps: {n: (s.params["x"].tolist(), m) for n, s, m in trajectory(start, tuner, lambda k: 10 + k, 2.0, steps)}  # noqa: E731
    assert at(0, 2, 3) == {0: ([], {}), 2: ([20.0, 22.0], {"last": 11.0}), 3: ([20.0, 22.0, 24.0], {"last": 12.0})}
    assert at(3)[3] == at(0, 2, 3)[3] and at(2) == {2: at(0, 2, 3)[2]}


def test_divergence_is_said():
    start, tuner = counted()
    with pytest.raises(UserError, match="rate of 2 diverged within 3 steps"):
        list(trajectory(start, tuner, lambda step: np.inf if step == 2 else 1.0, 2.0, (1, 3)))


def test_batches_are_smaller_and_every_step_takes_its_share():
    config = tiny_config()
    config.em.rows.update(dict(told=8, untold=16, habit=32, posterior=1))
    small = tuning_config(config, 8, 7)
    assert (small.em.rows.told, small.em.rows.untold, small.em.rows.habit, small.em.rows.posterior) == (4, 8, 16, 2)
    assert small.data.batch_size == 8 and small.seed == 7 and small.groups == 1 and not small.model.belief.size
    train_steps.check_rows(small)
    assert config.groups == 8 and config.data.batch_size == 16, "the agent's own config is left alone"
    with pytest.raises(UserError, match="1 rows"):
        tuning_config(config, 1, 0)


def test_what_cannot_be_tuned_is_refused(config, system):
    with pytest.raises(UserError, match="'energy'"):
        agent_tuner(system, config, "energy")
    with pytest.raises(UserError, match="several actors"):
        agent_tuner(SimpleNamespace(lower=(system,)), config)
