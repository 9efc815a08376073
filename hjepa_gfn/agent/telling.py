"""Explaining with tools: what a tool says of the plan enters the text while it is being written.

The explainer states its plan; a tool of the exemplary actor's is asked about the statement, its result is laid into the text
as a marked span, and the explainer goes on from there. Trained on texts with such spans (`config.data.tool_spans`) it
has learned what to make of them. Tools may know more than the agent's sensors: this is for people who read explanations,
never a part of acting.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from hjepa_gfn.agent.agent import Agent
from hjepa_gfn.data.tokenizer import BOS
from hjepa_gfn.exemplary.spans import with_result
from hjepa_gfn.plans import Plan

Tool = Callable[[str], str]  # from a plan in words to what the tool says of it


class Told(NamedTuple):
    """A text written with a tool: what was stated first, what the tool said of it, and the whole text with the marked span."""

    statement: str
    result: str
    text: str


def explain_with_tool(
    agent: Agent, key: jax.Array, percept: dict[str, jnp.ndarray], mission: jnp.ndarray, plans: Plan, name: str,
    tools: Sequence[Tool],
) -> list[Told]:
    """Explains B plans, asking a tool about each statement.

    Args:
      percept, mission, plans: [B, ...], as for `modes.explain`.
      name: the tool's name, in the spans.
      tools: one for each row, e.g. `lambda plan: toolbox.use("roll_forward", plan=plan)`.

    Returns:
      A text for each row. One that ends without a full stop states no plan: it is left as it is, and no tool is asked. A
      statement and result that leave no room for an explanation are cut at the end of the text.
    """
    k_state, k_go_on = jax.random.split(key)
    first = np.asarray(agent.act["explain"](agent.params, k_state, percept, mission, plans))
    length = agent.config.data.text_length
    given, found = np.zeros_like(first), []
    for row, (ids, tool) in enumerate(zip(first, tools, strict=True)):
        text = agent.tokenizer.decode_text(ids)
        statement, stop, _ = text.partition(".")
        if not stop:
            given[row] = ids
            found.append(Told(text, "", text))
            continue
        result = tool(statement + stop)
        words = agent.tokenizer.tokens(with_result(statement + stop, name, result))
        begun = [BOS, *words][:length]
        given[row, : len(begun)] = begun
        found.append(Told(statement + stop, result, ""))
    whole = np.asarray(agent.act["explain"](agent.params, k_go_on, percept, mission, plans, jnp.asarray(given)))
    return [told if told.text else told._replace(text=agent.tokenizer.decode_text(ids)) for told, ids in zip(found, whole)]
