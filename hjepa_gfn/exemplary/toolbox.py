"""The exemplary actor's tools, for rules and language models alike: each is a function from arguments to words.

`Toolbox.use` is what a back end calls: it records the call. The quiet methods are for code that needs facts, not words.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from minigrid.minigrid_env import MiniGridEnv

from hjepa_gfn.errors import UserError
from hjepa_gfn.exemplary import bot, facts, geometry
from hjepa_gfn.exemplary.calculator import calculate
from hjepa_gfn.exemplary.legs import plan_of
from hjepa_gfn.exemplary.phrases import Clause, actions_of, parse_plan, plan_in_words
from hjepa_gfn.exemplary.protocol import Situation, ToolCall
from hjepa_gfn.exemplary.rollout import Rollout, roll
from hjepa_gfn.exemplary.simulation import State, read_state
from hjepa_gfn.worlds.babyai import reset_env
from hjepa_gfn.worlds.language import place_in_words


class Tool(NamedTuple):
    """A tool as it is offered: what it is called and good for, its parameters (JSON schema), and what it does."""

    name: str
    description: str
    parameters: dict[str, Any]
    function: Callable[..., str]


class Toolbox:
    """The tools of one situation. Its simulator is reset as needed: nobody else may rely on its state."""

    def __init__(self, situation: Situation, env: MiniGridEnv, bot_run: bot.BotRun | None = None):
        """`env`: a simulator of the situation's level. `bot_run`: the planner's run from the start, if it was made already."""
        self.situation, self._env = situation, env
        self._runs = {(): bot_run} if bot_run else {}
        self._start = bot_run.rollout.start if bot_run else None
        self._rolls: dict[tuple[int, ...], Rollout] = {}
        self._calls: list[ToolCall] = []

    @property
    def start(self) -> State:
        """The state at the episode's start."""
        if self._start is None:
            reset_env(self._env, self.situation.seed)
            self._start = read_state(self._env)
        return self._start

    def rollout(self, actions: Sequence[int]) -> Rollout:
        """What happens if these actions are taken from the start. Cached, not recorded."""
        key = tuple(actions)
        if key not in self._rolls:
            self._rolls[key] = roll(self.start, key)
        return self._rolls[key]

    def bot(self, after: Sequence[int] = ()) -> bot.BotRun:
        """The planner's run, from the start or after given actions. Cached, not recorded."""
        key = tuple(after)
        if key not in self._runs:
            self._runs[key] = bot.run(self._env, self.situation.seed, key)
        return self._runs[key]

    @property
    def tools(self) -> tuple[Tool, ...]:
        """The tools that there are: what a language model is offered."""
        return tuple(TOOLS.values())

    def call(self, name: str, arguments: dict[str, Any]) -> str:
        """As `use`, with the arguments as a language model gives them: by any names, which may be no parameters' names."""
        return self._use(name, arguments)

    def use(self, name: str, **arguments: Any) -> str:
        """Uses a tool by name; the call is recorded, also where its answer is that the arguments are no good."""
        return self._use(name, arguments)

    def _use(self, name: str, arguments: dict[str, Any]) -> str:
        tool = TOOLS.get(name)
        try:
            if tool is None:
                raise UserError(f"no tool is called {name!r}: there are {', '.join(TOOLS)}")
            _check_arguments(tool, arguments)
            result = tool.function(self, **arguments)
        except UserError as error:
            result = f"error: {error}"
        self._calls.append(ToolCall(name, dict(arguments), result))
        return result

    def take_calls(self) -> tuple[ToolCall, ...]:
        """The calls since the last time this was asked."""
        calls, self._calls = tuple(self._calls), []
        return calls


_TYPES = {"string": str, "integer": int}


def _check_arguments(tool: Tool, arguments: dict[str, Any]) -> None:
    fields = tool.parameters["properties"]
    fits = all(name in fields and type(value) is _TYPES[fields[name]["type"]] for name, value in arguments.items())
    if not fits or set(tool.parameters["required"]) - set(arguments):
        takes = ", ".join(f"{name} ({field['type']})" for name, field in fields.items())
        raise UserError(f"{tool.name} takes {takes}")


def _route(toolbox: Toolbox, ahead: int, right: int) -> str:
    actions = geometry.route(toolbox.situation.view, (ahead, right))
    if actions is None:
        return "no way there over what is in view."
    return plan_in_words([Clause("", plan_of(actions))]) if actions else "you face it already."


def _bot(toolbox: Toolbox, after: str = "") -> str:
    given = actions_of(parse_plan(after)) if after else []
    run = toolbox.bot(given)
    rest = run.rollout.actions[len(given) :]
    if not run.rollout.success:
        return "the planner does not get there."
    return plan_in_words([Clause("", plan_of(rest))]) if rest else "nothing is left to do."


def _roll_forward(toolbox: Toolbox, plan: str) -> str:
    return outcome_in_words(toolbox.rollout(actions_of(parse_plan(plan))))


def outcome_in_words(rollout: Rollout) -> str:
    """What a rollout came to, with the first thing that had no effect."""
    steps = f"{rollout.steps} step{'s' if rollout.steps != 1 else ''}"
    vain = next((t for t, effect in enumerate(rollout.effects) if effect.kind in ("blocked", "nothing")), None)
    trouble = "" if vain is None else f"; step {vain + 1} has no effect"
    if rollout.success:
        return f"fulfils the mission in {steps}{trouble}."
    verdict = "fails the mission" if rollout.failed else "does not fulfil the mission"
    place = place_in_words(rollout.relative(rollout.final.pos))
    return f"{verdict} in {steps}{trouble}; you end {'where you began' if place == 'here' else place}."


def _calculate(toolbox: Toolbox, expression: str) -> str:
    return f"{calculate(expression):.10g}"


def _look_up(toolbox: Toolbox, thing: str) -> str:
    return facts.look_up(thing)


def _schema(required: tuple[str, ...] = (), **properties: tuple[str, str]) -> dict[str, Any]:
    described = {name: {"type": kind, "description": text} for name, (kind, text) in properties.items()}
    return {"type": "object", "properties": described, "required": list(required), "additionalProperties": False}


_PLAN_WORDS = ("string", "a plan in words, e.g. turn left and go forward 2, then pick up.")
TOOLS = {
    tool.name: tool
    for tool in (
        Tool("route", "Shortest way over what is in view that ends facing a place given relative to you.",
             _schema(("ahead", "right"), ahead=("integer", "cells ahead (negative: behind)"),
                     right=("integer", "cells to the right (negative: left)")), _route),
        Tool("bot", "A whole plan by an expert planner, from the start or after a plan of yours.",
             _schema(after=_PLAN_WORDS), _bot),
        Tool("roll_forward", "What happens if a plan is carried out from the start.", _schema(("plan",), plan=_PLAN_WORDS),
             _roll_forward),
        Tool("calculate", "Arithmetic.", _schema(("expression",), expression=("string", "e.g. 3 + 2 * 4")), _calculate),
        Tool("look_up", "What a kind of thing is and does.", _schema(("thing",), thing=("string", "e.g. key")), _look_up),
    )
}  # fmt: skip
