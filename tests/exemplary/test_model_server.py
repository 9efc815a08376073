"""The language-model back end against a server on the loopback interface: what goes wrong there must not end a run."""

import json
import threading
import time

import pytest

pytest.importorskip("pydantic_ai")
pytest.importorskip("openai")

from hjepa_gfn.exemplary.backends.language_model import LanguageModel
from tests.exemplary.openai_server import Reply, chat, serving
from tests.exemplary.tiny_questions import BOOK, GOOD_PLAN, SITUATION, TEXT, Toolbox

SAID = {"plan": GOOD_PLAN, "explanation": "so i face it."}
OK = chat(tool=("final_result", SAID))


def draft(server, toolbox=None, **settings):
    model = LanguageModel("openai:some", base_url=server.url, **{"backoff": 0.01, "retries": 2, **settings})
    return model.draft(SITUATION, (BOOK,), toolbox)


def test_a_question_over_http(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "not-for-this-server")
    with serving(OK) as server:
        answer = draft(server, temperature=0.5, seed=7, max_tokens=99, input_price=1.0, output_price=2.0)
    assert answer.text == f"{GOOD_PLAN} so i face it."
    assert answer.usage == (1, 100, 10, pytest.approx(120e-6))
    ((_, path, headers, body),) = server.requests
    assert path == "/v1/chat/completions" and "not-for-this-server" not in str(headers)
    assert body["model"] == "some" and body["temperature"] == 0.5 and body["seed"] == 7
    assert 99 in (body.get("max_tokens"), body.get("max_completion_tokens"))
    assert body["messages"][0]["role"] == "system" and SITUATION.text in body["messages"][-1]["content"]


def test_responses_that_are_not_counted_are_estimated():
    with serving(chat(tool=("final_result", SAID), usage=None)) as server:
        usage = draft(server, input_price=1.0).usage
    assert usage.input_tokens > len(SITUATION.text) / 4 and usage.output_tokens > 10 and usage.cost > 0


def test_a_key_that_is_named_is_sent(monkeypatch):
    monkeypatch.setenv("MY_KEY", "key-of-mine")
    with serving(OK) as server:
        assert not draft(server, api_key_env="MY_KEY").failure
    assert server.requests[0][2]["authorization"] == "Bearer key-of-mine"


def test_tools_over_http():
    toolbox = Toolbox()
    with serving(chat(tool=("count_steps", {"plan": "abc"})), OK) as server:
        answer = draft(server, toolbox)
    assert [call.result for call in answer.tool_calls] == ["3 steps"] and answer.usage.requests == 2
    assert server.requests[0][3]["tools"][0]["function"]["parameters"]["required"] == ["plan"]
    assert server.requests[1][3]["messages"][-1] == {"role": "tool", "tool_call_id": "call-1", "content": "3 steps"}


def test_native_structure_sends_the_schema():
    with serving(chat(content=json.dumps(SAID))) as server:
        assert draft(server, output="native").text
    schema = server.requests[0][3]["response_format"]["json_schema"]["schema"]
    assert set(schema["properties"]) == {"plan", "explanation"}


@pytest.mark.parametrize(
    "trouble",
    [
        Reply("{ this is no JSON"),
        Reply({"object": "chat.completion", "choices": []}),
        Reply({"error": {"message": "out of memory"}}, status=500),
        Reply("<html>bad gateway</html>", status=502, headers={"Content-Type": "text/html"}),
        Reply({"error": {"message": "slow down"}}, status=429),
        Reply(OK.body, cut=40),
        Reply(OK.body, hang=60.0),
    ],
    ids=["malformed", "no-choices", "500", "502", "429", "truncated", "hangs"],
)
def test_passing_trouble_is_retried(trouble):
    with serving(trouble, trouble, OK) as server:
        answer = draft(server, timeout=2.0 if trouble.hang else 30.0)
    assert not answer.failure and answer.text == f"{GOOD_PLAN} so i face it."
    assert answer.usage.requests == len(server.requests) == 3


@pytest.mark.parametrize(
    ("trouble", "message"),
    [
        (Reply("{ this is no JSON"), "no sound response"),
        (Reply({"error": {"message": "out of memory"}}, status=500), "error: HTTP 500: {'message': 'out of memory'}"),
        (Reply({"error": {"message": "slow down"}}, status=429), "rate limit: HTTP 429"),
        (Reply(OK.body, cut=40), "no connection"),
        (Reply(OK.body, hang=60.0), "time-out: no answer within 0.3 s"),
    ],
    ids=["malformed", "500", "429", "truncated", "hangs"],
)
def test_lasting_trouble_becomes_a_failure(trouble, message):
    with serving(trouble) as server:
        timeout = 0.3 if trouble.hang else 30.0
        model = LanguageModel("openai:some", base_url=server.url, backoff=0.01, retries=1, timeout=timeout)
        started = time.monotonic()
        answer = model.review(SITUATION, BOOK, TEXT, None)
    assert (answer.verdict, answer.text) == ("keep", "")
    assert answer.failure.startswith(message) and answer.failure.endswith("(request 2 of 2)")
    assert answer.usage.requests == 2 >= len(server.requests)  # a request may be given up before it arrives
    assert answer.prompt_sha == model.question_sha("review", SITUATION, BOOK, TEXT)
    assert time.monotonic() - started < 40


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404])
def test_what_no_retry_can_help_is_not_retried(status):
    with serving(Reply({"error": {"message": "no"}}, status=status)) as server:
        answer = draft(server)
    assert answer.failure.startswith(f"error: HTTP {status}") and len(server.requests) == 1


def test_an_exhausted_account_is_not_asked_again():
    body = {"error": {"message": "no credit", "code": "insufficient_quota", "type": "insufficient_quota"}}
    with serving(Reply(body, status=429)) as server:
        assert "no credit" in draft(server).failure
    assert len(server.requests) == 1


def test_no_server_at_all():
    with serving(OK) as server:
        pass
    answer = draft(server, retries=1)
    assert answer.failure.startswith("no connection") and answer.usage.requests == 2


def test_retry_after_is_honoured():
    with serving(Reply({"error": {"message": "slow down"}}, 429, {"Retry-After": "1"}), OK) as server:
        assert not draft(server).failure
    first, second = (request[0] for request in server.requests)
    assert second - first >= 1.0


def test_a_wait_longer_than_allowed_is_not_waited():
    with serving(Reply({"error": {"message": "slow down"}}, 429, {"Retry-After": "3600"})) as server:
        answer = draft(server, max_wait=2.0)
    assert "asks for a wait of 3600 s, more than max_wait=2" in answer.failure and len(server.requests) == 1


def test_pauses_grow():
    with serving(Reply("", status=503)) as server:
        draft(server, retries=3, backoff=0.1)
    times = [request[0] for request in server.requests]
    pauses = [after - before for before, after in zip(times, times[1:])]
    assert len(pauses) == 3 and pauses[0] >= 0.1 and pauses[1] >= 0.2 and pauses[2] >= 0.4


def test_requests_are_spaced():
    with serving(OK) as server:
        model = LanguageModel("openai:some", base_url=server.url, requests_per_minute=75)
        started = time.monotonic()
        for _ in range(3):
            model.draft(SITUATION, (), None)
    assert server.requests[2][0] - started >= 2 * 60 / 75


def test_one_question_at_a_time():
    with serving(Reply(OK.body, hang=0.4)) as server:
        model = LanguageModel("openai:some", base_url=server.url)
        threads = [threading.Thread(target=model.draft, args=(SITUATION, (), None)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    first, second = (request[0] for request in server.requests)
    assert second - first >= 0.4


@pytest.mark.parametrize("output", ["tool", "native"])
def test_cut_off_output(output):
    half = json.dumps(SAID)[:30]
    reply = chat(tool=("final_result", half), finish="length") if output == "tool" else chat(content=half, finish="length")
    with serving(reply) as server:
        answer = draft(server, output=output, max_tokens=12)
    assert answer.failure == f"cut off: the response reached max_tokens=12: {half}"
    assert answer.usage.output_tokens == 10 and len(server.requests) == 1


def test_an_unreadable_plan_is_mended_over_http():
    with serving(chat(tool=("final_result", {"plan": "hop.", "explanation": "so."})), OK) as server:
        assert draft(server).text.startswith(GOOD_PLAN)
    assert "cannot read 'hop' as a step of a plan" in json.dumps(server.requests[1][3]["messages"][-1])


def test_anthropic_models():
    pytest.importorskip("anthropic")
    body = {
        "id": "1", "type": "message", "role": "assistant", "model": "some", "stop_reason": "tool_use", "stop_sequence": None,
        "content": [{"type": "tool_use", "id": "t", "name": "final_result", "input": SAID}],
        "usage": {"input_tokens": 50, "output_tokens": 5},
    }  # fmt: skip
    with serving(Reply({"type": "error", "error": {"type": "overloaded_error"}}, status=529), Reply(body), base="") as server:
        model = LanguageModel("anthropic:some", base_url=server.url, backoff=0.01, seed=3)
        answer = model.draft(SITUATION, (BOOK,), None)
    assert answer.text == f"{GOOD_PLAN} so i face it." and answer.usage[:3] == (2, 50, 5)
    assert {request[1] for request in server.requests} == {"/v1/messages"}
