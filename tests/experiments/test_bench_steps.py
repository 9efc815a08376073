"""Timing of train steps: what is timed, what is counted, and what is refused."""
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from experiments import bench_steps
from experiments.configs.babyai_scale import get_config
from hjepa_gfn.errors import UserError
from hjepa_gfn.objectives.policies import roots, sample_paths
from hjepa_gfn.plans import forward_mask
from tests import tiny


def test_every_call_is_timed_after_one_to_warm_up():
    calls = []

    def step(state, batch):
        calls.append(state)
        return state + 1, {"loss": jnp.float32(batch)}

    seconds, state, metrics = bench_steps.timed(step, 0, 5.0, 3)
    assert len(seconds) == 3 and calls == [0, 1, 2, 3] and state == 4 and float(metrics["loss"]) == 5.0


def test_plans_grow_to_their_capacity_where_policies_never_stop():
    system, params, context = tiny.system(), tiny.params(), tiny.context(8)
    sample = jax.jit(lambda some: sample_paths(system, some, jax.random.key(0), roots(system, 8), True, context))
    usual, longest = sample(params), sample(bench_steps.never_stop(params))
    assert longest.length.mean() > usual.length.mean()
    assert not forward_mask(longest.final, system.spec).any(), "only STOP is legal at the end"


def test_a_missing_corpus_is_one_line(tmp_path):
    with pytest.raises(UserError, match="corpus"):
        bench_steps.bench(None, str(tmp_path), ["jepa"], 1, True, 0)


def test_a_step_that_there_is_not_is_one_line(monkeypatch):
    monkeypatch.setattr(bench_steps, "check_corpus", lambda path: None)
    monkeypatch.setattr(bench_steps, "AgentTask", lambda config, path: SimpleNamespace())
    monkeypatch.setattr(bench_steps, "make_train_steps", lambda system, config: {"jepa": None, "habit": None})
    with pytest.raises(UserError, match="no train step leap; there are jepa, habit"):
        bench_steps.bench(get_config("tiny"), "corpus", ["leap"], 1, True, 0)
