"""Do the agent's words say what it plans, can it read others'? `python -m experiments.faithfulness --checkpoint=runs/demo`.

Round trips, swap margin, information, truncation and corruption (`evaluation.faithfulness`), and the belief over another
agent's plan (`evaluation.theory_of_mind`), on held-out situations. Prints a table and writes faithfulness.json.
"""
from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from absl import flags

from experiments import cli
from experiments.evaluate import read_agent
from hjepa_gfn.data.builder import build
from hjepa_gfn.data.pipeline import Pipeline
from hjepa_gfn.errors import UserError
from hjepa_gfn.evaluation.faithfulness import evaluate_faithfulness
from hjepa_gfn.evaluation.theory_of_mind import KINDS, evaluate_theory_of_mind
from hjepa_gfn.files import write_json
from hjepa_gfn.worlds import make_world


def print_table(report: dict[str, Any]) -> None:
    """What came out, in a dozen lines."""
    said, mind = report["faithfulness"], report["theory_of_mind"]
    trip, interval = said["round_trip"], lambda name: "95% {:.2f} .. {:.2f}".format(*said[name])
    rows = [
        ("same actions", trip["same_actions"], "a text of the executed plan states exactly the actions that the plan holds"),
        ("same first leg", trip["same_first_leg"], "the text's first leg is the plan's, action by action"),
        ("same plan", trip["same_plan"],
         f"plan -> text -> plan; tree edit distance {trip['distance']:.2f} of {trip['edits']:.2f} edits"),
        ("own text (nats)", said["own_text_nats"], f"above another situation's text; {interval('own_text_interval')}"),
        ("swap margin (nats)", said["swap_margin_nats"], f"two plans of one situation; {interval('swap_margin_interval')}"),
        ("information (nats)", said["information_nats"], f"bound on I(z; x|c), at most {said['information_at_most']:.2f}; "
         f"{interval('information_interval')}")]
    curve = lambda name, what: ", ".join(f"{share:.0%}: {value:.3f}" for share, value in zip(  # noqa: E731
        said[name][f"share_{'undone' if name == 'truncation' else 'replaced'}"], said[name][what], strict=True))
    print(f"\n  of {said['texts']} held-out texts")
    for name, value, note in rows:
        print(f"  {name:20s} {value:8.3f}  {note}")
    print(f"  log p a token with a share of the plan undone: {curve('truncation', 'log_prob_per_token')}")
    print(f"  first leg read from texts with a share of words replaced: {curve('corruption', 'first_leg_read')}; "
          f"without a text {said['corruption']['first_leg_without_text']:.3f}")
    for kind in KINDS:
        found = mind[kind]
        shares = {what: [f"{found[f'{what}_{name}']:.3f}" for name in ("text", "none", "other")] for what in ("leg", "step")}
        print(f"  {kind:5s} texts ({found['texts']}): with the text, without, with another's: first leg "
              + ", ".join(shares["leg"]) + "; first step " + ", ".join(shares["step"]))


def main() -> None:
    """The entry point."""
    f = flags.FLAGS
    with read_agent(f.checkpoint) as agent, tempfile.TemporaryDirectory() as scratch:
        config = agent.config
        if agent.system.levels != (2, 1):
            raise UserError(f"{f.checkpoint}: faithfulness reads plans of legs and steps; this agent's scales are others")
        data = f.data_dir or str(build(config.level, Path(scratch) / "held_out", 1, config.evaluation.texts, 0, 2, False))
        pipeline = Pipeline(data, "validation", agent.tokenizer, config.data, f.seed)
        names = make_world(config.level, 1).action_names
        report = {
            "checkpoint": f.checkpoint, "level": config.level, "seed": f.seed,
            "faithfulness": evaluate_faithfulness(agent, pipeline, names, f.seed),
            "theory_of_mind": evaluate_theory_of_mind(agent, pipeline, f.seed)}
    print_table(report)
    out = Path(f.out) if f.out else Path(f.checkpoint) / "faithfulness.json"
    write_json(out, report)
    print(out)


def define_flags() -> None:
    """The command line; defined on running only, so that other entry points can import this one."""
    flags.DEFINE_string("checkpoint", None, "a run's working directory, a checkpoint of it, or an export")
    flags.DEFINE_string("out", "", "the report's file; default: faithfulness.json beside the checkpoint")
    flags.DEFINE_string("data_dir", "", "a corpus whose validation split is read; default: made anew")
    flags.DEFINE_integer("seed", 0, "of the agent's sampling", lower_bound=0)


if __name__ == "__main__":
    define_flags()
    cli.main(main, required=("checkpoint",))
