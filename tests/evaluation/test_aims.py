"""Whether an agent acts and aims as experts do, against a loop over single steps."""

import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
import tiny  # noqa: E402

from hjepa_gfn.evaluation.aims import evaluate_aims  # noqa: E402
from hjepa_gfn.objectives.aims import aims_of  # noqa: E402
from hjepa_gfn.objectives.windows import encode_start  # noqa: E402


def batches():
    """Two batches; of the second only the first row counts. Every action is a turn, a step or a pick-up."""
    for seed, mask in ((0, [True, True, True]), (1, [True, False, False])):
        window = tiny.window([[3, 2], [4, 3], [1]], seed)
        action = np.random.default_rng(seed).choice([0, 1, 2, 2, 3, 4], (3, tiny.WINDOW))
        window = {**window, "action": jnp.asarray(action), "clause": window["segment"]}
        yield {"start": window, "mission": tiny.words(3, tiny.MISSION, seed), "mask": np.array(mask)}


@pytest.mark.parametrize("aim", [True, False])
def test_agreement_with_experts_is_that_of_single_steps(aim):
    system, params = tiny.system(aim=aim), tiny.params(aim=aim)
    found = evaluate_aims(SimpleNamespace(system=system, params=params), SimpleNamespace(epoch=batches))
    pointed = jax.jit(lambda p, o, m: (lambda c: (system.net(p, c[0], method="habit"), c[1]))(
        system.net(p, o, encode_start(system, p, o)[0], m, method="pointed")))
    acts, aims, inside, nll = [], [], [], []
    for batch in batches():
        window = batch["start"]
        cells = np.asarray(aims_of(window))
        for b in np.flatnonzero(batch["mask"]):
            for t in range(int(window["length"][b])):
                percept = {name: window[name][b, t][None] for name in ("view", "direction")}
                habit, cell = pointed(params, percept, batch["mission"][b][None])
                acts.append(int(habit[0].argmax()) == int(window["action"][b, t]))
                known = {int(c) for c in cells[b, t] if c >= 0}
                if aim and known:
                    aims.append(int(cell[0].argmax()) in known)
                    inside.append(min(known) < 49)
                    nll.append(-np.log(sum(float(jax.nn.softmax(cell[0])[c]) for c in known)))
    assert found["situations"] == len(acts) == 18 and found["habit_accuracy"] == pytest.approx(np.mean(acts))
    assert ("aim_nll" in found) == aim
    if aim:
        assert found["aims"] == len(aims) > 5 and 0 < np.sum(inside) < len(inside)
        assert found["aim_accuracy"] == pytest.approx(np.mean(aims))
        assert found["aim_nll"] == pytest.approx(np.mean(nll), rel=1e-4)
        assert found["aim_accuracy_in_view"] == pytest.approx(np.mean(np.array(aims)[inside]))
