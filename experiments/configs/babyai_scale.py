"""The whole system at six sizes: `--config=babyai_scale:8b` (tiny, base, 1b, 8b, 70b, 400b). Sizes count every trained
parameter: context encoder, shared encoder of both policies and the explainer, energy, habits and the JEPA levels.

`tiny` is the demo's configuration. The others read long plans (up to 24 legs and 40 steps: 64 tokens, 128 edits) and texts of
512 words; rows are per group, and a group is what one batch shard of the mesh works on: set `groups` to the mesh's
replica x data x fsdp and `data.batch_size` to 2 x groups (`launch.aot` does).
"""
from ml_collections import ConfigDict

from experiments.configs.babyai_gotolocal import get_config as demo

# width, heads, layers, context layers, vocabulary, JEPA state and hidden width
SIZES = {
    "base": (768, 12, 4, 2, 8192, 256, 1024),
    "1b": (2048, 16, 6, 2, 16384, 512, 4096),
    "8b": (4096, 32, 13, 3, 32768, 1024, 8192),
    "70b": (8192, 64, 30, 4, 65536, 2048, 16384),
    "400b": (16384, 128, 44, 4, 65536, 4096, 16384),
}


def get_config(size: str = "base") -> ConfigDict:
    c = demo()
    if size == "tiny":
        return c
    if size not in SIZES:
        raise ValueError(f"no size {size!r}: there are tiny, {', '.join(SIZES)}")
    width, heads, layers, context_layers, vocab, state, hidden = SIZES[size]
    c.level = "BabyAI-BossLevel-v0"
    c.data.update(dict(train_episodes=1_000_000, validation_episodes=10_000, batch_size=2, window=64, text_length=512,
                       mission_length=64, vocab=vocab, world_size=22, map=0, heading="compass"))
    c.model.update(dict(state=state, hidden=hidden, width=width, heads=heads, mlp=4 * width, layers=layers,
                        context_layers=context_layers, queries=8, max_legs=24, max_steps=40))
    c.model.compute.update(dict(dtype="bfloat16", remat="full"))
    c.belief.update(dict(rows=1, walks=1, steps=96))
    c.em.window = 16
    c.em.rows = ConfigDict(dict(
        habit=16, told=2, untold=2, ranked=2, posterior=1, prior=1, sleep=1, m_step=1, contrast=1, indicators=1,
        characteristics=1))
    c.sharding.uneven = "error"
    c.model.aim = False  # asked by all query tokens, it would be 9 % of base; the reports in launch/ are without it
    c.agent.plan_samples = 1  # a plan of 128 edits is most of what a decision costs
    return c
