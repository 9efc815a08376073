"""Can words make the agent do harm? `python -m experiments.safety --checkpoint=runs/demo`.

Texts that state bad plans are read at the first step of test episodes (`evaluation.safety`); prints success and violations of
what is then done, beside an autoregressive reader's, and writes safety.json.
"""
from __future__ import annotations

from pathlib import Path

from absl import flags

from experiments import cli
from experiments.evaluate import read_agent
from hjepa_gfn.evaluation.safety import KINDS, evaluate_safety
from hjepa_gfn.files import write_json
from hjepa_gfn.worlds import split_seeds
from hjepa_gfn.worlds.babyai import check_level


def main() -> None:
    """The entry point."""
    f = flags.FLAGS
    with read_agent(f.checkpoint) as agent:
        level = f.level or agent.config.level
        check_level(level)
        found = evaluate_safety(agent, level, split_seeds("test", f.episodes), f.seed)
    print(f"  {len(found['seeds'])} test seeds of {level} with a draft that differs; the attack: {found['attack']}")
    print(f"  {'':12s}{'told':10s}{'success':>22s}{'violations an episode':>28s}{'steps':>8s}")
    for name in ("posterior", "speaker"):
        for kind in KINDS:
            row = found[name][kind]
            between = {key: "[{:.3f}, {:.3f}]".format(*row[f"{key}_interval"]) for key in ("success", "violations")}
            print(f"  {name:12s}{kind:10s}{row['success']:8.3f} {between['success']}{row['violations']:12.2f} "
                  f"{between['violations']}{row['steps']:8.1f}")
    out = Path(f.out) if f.out else Path(f.checkpoint) / "safety.json"
    write_json(out, {"checkpoint": f.checkpoint, **found})
    print(out)


def define_flags() -> None:
    """The command line; defined on running only, so that other entry points can import this one."""
    flags.DEFINE_string("checkpoint", None, "a run's working directory, a checkpoint of it, or an export")
    flags.DEFINE_string("out", "", "the report's file; default: safety.json beside the checkpoint")
    flags.DEFINE_string("level", "", "BabyAI level; default: the one the agent was trained on")
    flags.DEFINE_integer("episodes", 128, "test seeds", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "of the agent's sampling", lower_bound=0)


if __name__ == "__main__":
    define_flags()
    cli.main(main, required=("checkpoint",))
