"""Several actors: which a configuration asks for, their parameters, and that a loss of one leaves the others alone."""
import functools
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

sys.path.insert(0, str(Path(__file__).parents[1]))
import tiny  # noqa: E402

from experiments.configs.babyai_hierarchy import get_config  # noqa: E402
from hjepa_gfn.errors import UserError  # noqa: E402
from hjepa_gfn.objectives.cases import encode_context, make_case, stack  # noqa: E402
from hjepa_gfn.objectives.energy import plan_energy  # noqa: E402
from hjepa_gfn.objectives.groups import actor_view, join_shared, model_view, moving_groups, split_shared  # noqa: E402
from hjepa_gfn.objectives.system import init_params, make_system  # noqa: E402
from hjepa_gfn.objectives.train_steps import schedule  # noqa: E402

TWO = (dict(scales=("clause", "subgoal")), dict(scales=("subgoal", "step"), name="lower"))


def system(actors=TWO, share=False, levels=tiny.CLAUSES):
    model = SimpleNamespace(**{**tiny.MODEL, "levels": levels, "actors": actors, "share_layers": share})
    return make_system(model, tiny.WORDS, tiny.TEXT, tiny.ACTIONS)


@functools.cache
def params(share=False):
    return tiny.drawn(lambda: init_params(system(share=share), jax.random.key(0), tiny.MISSION))


def window():
    made = tiny.window([[2, 1, 2], [3, 1], [1, 4]], seed=4)
    return {**made, "clause": jnp.asarray([[1, 1, 1, 0, 0, 0, 0], [4, 4, 4, 4, 0, 0, 0], [0, 3, 3, 3, 3, 0, 0]])}


def test_one_actor_over_all_levels_is_what_a_configuration_has_without_a_list():
    one, same = system(actors=()), system(actors=(dict(scales=("clause", "subgoal", "step"), name="all"),))
    assert one == same == tiny.system(clauses=True) and one.levels == (3, 2, 1) and not one.lower
    shapes = jax.eval_shape(lambda: init_params(one, jax.random.key(0), tiny.MISSION))
    assert set(shapes) == {"jepa", "encoder", "policy", "model", "habit", "indicators", "target"}
    view = actor_view(shapes)
    assert view == shapes and "target" not in shapes["encoder"]["context_encoder"]


def test_any_run_of_levels_makes_an_actor():
    upper, lower = system().actors
    assert (upper.levels, lower.levels, upper.name, lower.name) == ((3, 2), (2, 1), "", "lower")
    assert upper.spec.state_codes == (9, 3) and upper.spec.action_codes == (3, 9) and upper.spans == (3, 3)
    assert lower.spec.state_codes == (3, 9) and lower.spec.action_codes == (9, tiny.ACTIONS) and lower.spans == (3, 4)
    assert lower.above.levels == upper.levels and upper.above is None and lower.level_link and not upper.level_link
    assert (upper.network.sizes.targets, lower.network.sizes.targets) == (0, 3)
    far = (*tiny.CLAUSES, dict(name="all", code=(3,), action=(3,), longest=3, segments=3, most=2))
    three = system(({"scales": ("all", "clause")}, *TWO), levels=far).actors
    assert [actor.levels for actor in three] == [(4, 3), (3, 2), (2, 1)]
    assert [actor.name for actor in three] == ["", "clause-subgoal", "lower"] and three[2].above == three[1]


@pytest.mark.parametrize(("actors", "message"), [
    ((dict(scales=("clause", "step")),), r"scales=\('clause', 'step'\): must be two or more adjacent levels"),
    ((dict(scales=("clause",)),), "two or more adjacent levels, coarsest first, of clause, subgoal, step"),
    ((dict(scales=("subgoal", "clause")),), "two or more adjacent"), ((dict(scale=1),), "no field 'scale'; there are name"),
    ((TWO[0], dict(scales=("clause", "subgoal", "step"))), "ends at scale 'subgoal' and the next begins at 'clause'"),
    ((TWO[1],), "the first must begin at 'clause' and the last end at 'step'"), (TWO[:1], "the last end at 'step'"),
    ((TWO[0], {**TWO[1], "name": "a/b"}), "name 'a/b': must be a word"),
    ((TWO[0], {**TWO[1], "name": "clause-subgoal"}), "that no other actor has|must be a word")])
def test_lists_that_make_no_hierarchy_are_refused(actors, message):
    if actors[-1].get("name") == "clause-subgoal":  # the first goes without its name
        assert system(actors).lower[0].name == "clause-subgoal"
        return
    with pytest.raises(UserError, match=message):
        system(actors)


def test_shared_layers_are_one_group_and_come_back_in_their_place():
    own = nn.unbox(jax.eval_shape(lambda: init_params(system(), jax.random.key(0), tiny.MISSION)))
    shared = nn.unbox(jax.eval_shape(lambda: init_params(system(share=True), jax.random.key(0), tiny.MISSION)))
    assert set(shared) - set(own) == {"shared"} and set(own) <= set(shared)
    for name in ("", "lower"):
        assert actor_view(shared, name) == actor_view(own, name)  # the same shapes, wherever they lie
    assert shared["shared"]["encoder"].keys() == {"stack"}
    assert set(shared["encoder@lower"]["context_encoder"]) == {"target", "target_level"}
    assert "context_encoder" not in shared["encoder"] and "stack" not in shared["encoder"]["encoder"]
    assert join_shared(*split_shared(own["encoder@lower"])) == own["encoder@lower"]
    view = actor_view(params(True), "lower")
    assert view["encoder"]["encoder"]["stack"] is params(True)["shared"]["encoder"]["stack"]
    assert view["policy"] is params(True)["policy@lower"] and model_view(view)["encoder"] is params(True)["target@lower"]


def judged(actor, view):
    """What an actor says of its observed plans and their roots: every head but the explainer's and the habit's."""
    case = make_case(actor, view, window(), tiny.words(3, tiny.MISSION), jax.random.key(1), 0.5)
    context, ground = encode_context(actor, view, case)
    plans = stack(case.root, case.observed)
    features = actor.net(view, plans, context, method="features")
    logits = actor.net(view, features, plans, 0, method="edits")
    codes = actor.net(view, features, jnp.zeros((3, 2), jnp.int32), 0, method="codes")
    energy = plan_energy(actor, view, plans, features, ground)
    return energy.sum() + sum(x.max(-1).sum() for x in (logits.log_stop, logits.log_site, codes))


@pytest.mark.parametrize("name", ["", "lower"])
def test_a_loss_of_one_actor_reaches_its_own_parameters_and_shared_layers_only(name):
    actor = next(a for a in system(share=True).actors if a.name == name)
    grad = jax.jit(jax.grad(lambda p: judged(actor, actor_view(p, name))))(params(True))
    size = {group: max(float(jnp.abs(g).max()) for g in jax.tree.leaves(tree)) for group, tree in grad.items()}
    moved = {group for group, most in size.items() if most > 0}
    assert moved == set(moving_groups(params(True), ("encoder", "policy", "model"), name)) and "shared" in moved
    if name:
        aim = grad["encoder@lower"]["context_encoder"]
        assert float(jnp.abs(aim["target"]["kernel"]).max()) > 0 and np.count_nonzero(aim["target_level"]["table"].any(1)) > 1


def test_every_actor_takes_a_step_when_the_first_does():
    config = get_config()
    last = config.schedule.jepa_steps + config.schedule.ground_steps
    assert [a["scales"] for a in config.model.actors] == [("clause", "subgoal"), ("subgoal", "step")]
    lower = "@subgoal-step"
    config.model.share_layers = False
    for step in (0, config.schedule.jepa_steps, last):
        names = schedule(config, step)
        mine, its = ({n.split("@")[0] for n in names if (lower in n) == below} for below in (False, True))
        assert its == mine - {"jepa", "indicators"} and its
    config.model.share_layers = True
    assert "habit" + lower not in schedule(config, last) and "e_step" + lower in schedule(config, last)
