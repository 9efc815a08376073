"""The context and the explainer: what they read, and what they must not."""

import functools
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]
import tiny  # noqa: E402
from calls import B, T, answers, close, explained, plans  # noqa: E402

from hjepa_gfn.models.agent_network import Context  # noqa: E402

# --- context --------------------------------------------------------------------------------------------------------


def test_context_reads_each_of_its_inputs_and_no_padding():
    net, p = tiny.system().net, tiny.params()
    percept, state = tiny.percepts(1), jnp.ones((1, tiny.MODEL["state"]))
    mission = jnp.array([[1, 5, 2, 0]])
    encode = jax.jit(lambda p, *inputs: net(p, *inputs, method="context"))
    base = encode(p, percept, state, mission)
    assert base.mask.tolist() == [[True] * 6 + [False]] and base.tokens.shape == (1, 7, 16)
    for channel in range(3):
        seen = {**percept, "view": percept["view"].at[0, 3, 2, channel].add(1)}
        assert np.abs(encode(p, seen, state, mission).tokens - base.tokens)[:, :2].max() > 1e-4, channel
    moved = {**percept, "view": jnp.roll(percept["view"], 1, axis=2)}
    turned = {**percept, "direction": (percept["direction"] + 1) % 4}
    for inputs in ((moved, state, mission), (turned, state, mission), (percept, state + 1, mission),
                   (percept, state, mission.at[0, 1].set(6)), (percept, state, jnp.array([[5, 1, 2, 0]]))):
        assert np.abs(encode(p, *inputs).tokens - base.tokens)[:, :2].max() > 1e-4
    # another embedding of the padding word: nothing that may be looked at changes
    encoder = p["encoder"]["context_encoder"]
    table = encoder["word"]["table"].at[0].add(5 * jnp.cos(jnp.arange(16.0)))
    other = {**p, "encoder": {**p["encoder"], "context_encoder": {**encoder, "word": {"table": table}}}}
    dark = encode(other, percept, state, mission)
    np.testing.assert_allclose(dark.tokens[:, :6], base.tokens[:, :6], atol=1e-6)
    assert np.abs(dark.tokens - base.tokens)[:, 6].max() > 1e-2


def test_masked_context_is_seen_by_nobody():
    z, c, x = plans(13), tiny.context(B), tiny.words(2, tiny.TEXT)
    assert not np.asarray(c.mask).all()
    dark = Context(jnp.where(c.mask[..., None], c.tokens, 7 * jnp.cos(jnp.arange(16.0))), c.mask)
    p = tiny.params()
    close(*(answers(2)(p, z, k, x) for k in (c, dark)))
    text = jnp.broadcast_to(tiny.words(B, tiny.TEXT)[:, None], (B, T, tiny.TEXT))
    close(*(explained()(p, z, k, text) for k in (c, dark)))


# --- explainer ------------------------------------------------------------------------------------------------------


def test_the_explainer_is_causal_and_sees_every_word_before():
    z, c = plans(14), tiny.context(B)
    x = jnp.broadcast_to(tiny.words(B, tiny.TEXT, full=True)[:, None], (B, T, tiny.TEXT))
    call = functools.partial(explained(), tiny.params(), z, c)
    before = np.asarray(call(x))
    assert before.shape == (B, T, tiny.TEXT - 1, tiny.WORDS)
    np.testing.assert_allclose(np.exp(before).sum(-1), 1.0, atol=1e-5)
    for j in range(tiny.TEXT):
        change = np.abs(np.asarray(call(x.at[..., j].set(3 + (x[..., j] + 1) % 5))) - before).max(-1)
        assert (change[..., :j] == 0).all(), "word j tells of itself or earlier words"
        assert (change[..., j:] > 1e-5).all(), "every later word sees word j"


def test_explanations_speak_of_plan_and_situation():
    z, c, p = plans(16), tiny.context(B), tiny.params()
    x = jnp.broadcast_to(tiny.words(B, tiny.TEXT, full=True)[:, None], (B, T, tiny.TEXT))
    base = explained()(p, z, c, x)
    for z2, c2 in ((plans(17), c), (z, tiny.context(B, seed=3))):
        assert np.abs(explained()(p, z2, c2, x) - base).max((2, 3)).min() > 1e-4


def test_writing_word_by_word_says_what_reading_the_whole_text_does():
    """Keys and values kept from word to word against the causal pass over the whole text; plans of all sizes."""
    z, c, p, net = jax.tree.map(lambda leaf: leaf[:, 0], plans(18)), tiny.context(B), tiny.params(), tiny.system().net
    x = tiny.words(B, tiny.TEXT, full=True)
    whole = explained()(p, jax.tree.map(lambda leaf: leaf[:, None], z), c, x[:, None])[:, 0]
    draft = net(p, z, c, method="prepare")
    write = jax.jit(lambda p, *arguments: net(p, *arguments, method="write"))
    for place in range(tiny.TEXT - 1):
        log_p, draft = write(p, draft, x[:, place], place)
        np.testing.assert_allclose(log_p, whole[:, place], atol=2e-5, err_msg=str(place))
