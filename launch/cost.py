"""What training a system costs, from its configuration alone: `python -m launch.cost --config=babyai_scale:8b --tpu=v5p`

FLOPs of each train step by formula (within 5% of the traced programs: `tests/objectives/test_cost.py`), chip-hours at a
utilisation, and the ratio to training a language model of the same size on the same texts, once.
"""
from __future__ import annotations

from typing import Any

from absl import flags

from experiments import cli
from hjepa_gfn.exemplary.backends.questions import prompt
from hjepa_gfn.exemplary.knowledge import load_textbooks
from hjepa_gfn.objectives import cost
from launch.generations import generation


def iteration_flops(config: Any) -> tuple[dict[str, float], float]:
    """FLOPs of each train step, and of an average iteration of the EM phase."""
    steps = cost.step_flops(config)
    every = config.schedule.every
    pace = {name: every.get(name.split("@")[0], 0) for name in steps}  # actors below the first keep the first's pace
    return steps, sum(flops / pace[name] for name, flops in steps.items() if pace[name])


def parameter_count(config: Any) -> int:
    """Trained parameters of every group."""
    import jax

    from hjepa_gfn.objectives.groups import is_copy
    from hjepa_gfn.objectives.system import init_params, make_system
    from hjepa_gfn.training.agent_task import NUM_ACTIONS

    system = make_system(config.model, config.data.vocab, config.data.text_length, NUM_ACTIONS)
    params = jax.eval_shape(lambda key: init_params(system, key, config.data.mission_length), jax.random.key(0))
    return sum(leaf.size for group, tree in params.items() if not is_copy(group) for leaf in jax.tree.leaves(tree))


def exemplary_tokens(sweeps: float) -> float:
    """Tokens that the exemplary actor's language model reads and writes for one plan: a draft, then in each sweep a review by
    every textbook, its prompt as the package's files have it. Four tokens for three words."""
    books = load_textbooks()
    prompts = {name: len(prompt(name).split()) for name in ("system", "draft", "review")}
    situation, text = 60, 32  # words: a percept with its mission, and a plan with its explanation
    draft = prompts["system"] + prompts["draft"] + situation + text
    reviews = [prompts["system"] + prompts["review"] + len(book.text.split()) + situation + 2 * text for book in books]
    return 4 / 3 * (draft + sweeps * sum(reviews))


def main(config: Any) -> None:
    """The entry point."""
    f = flags.FLAGS
    chip = generation(f.tpu)
    steps, iteration = iteration_flops(config)
    parameters = parameter_count(config)
    told = config.data.batch_size * 2 * config.data.text_length  # a final text and a draft of each situation
    model = cost.language_model_flops(parameters, told)
    iterations = f.texts / (2 * config.data.batch_size)
    hours = cost.chip_hours(iteration * iterations, chip.peak_tflops_bf16, f.utilisation)
    print(f"{parameters / 1e9:.3f} billion trained parameters; {config.data.batch_size} situations, {told} text tokens a batch")
    wide = max(10, *map(len, steps))
    print(f"  {'step':{wide}}{'TFLOP a call':>14}{'x language model on the same texts':>36}")
    for name, flops in steps.items():
        print(f"  {name:{wide}}{flops / 1e12:14.3f}{flops / model:36.2f}")
    print(f"  {'iteration':{wide}}{iteration / 1e12:14.3f}{iteration / model:36.2f}   (of the EM phase)")
    print(f"  {f.texts:.3g} texts: {hours:.3g} {chip.name} chip-hours at {100 * f.utilisation:.0f} % of "
          f"{chip.peak_tflops_bf16} TFLOP/s; the language model: {hours * model / iteration:.3g}")
    plan, tokens = cost.decision_flops(config), exemplary_tokens(f.sweeps)
    actor = cost.exemplary_flops(parameters, tokens)
    print(f"  a decision in planning mode, with the longest plan: {plan / 1e9:.3g} GFLOP; a plan by the exemplary actor with a "
          f"language model of {parameters / 1e9:.3g} billion parameters ({tokens:.0f} tokens): {actor / 1e9:.3g}, "
          f"{actor / plan:.3g} times as much")


def define_flags() -> None:
    """The command line; defined on running only, so that other entry points can import this one."""
    flags.DEFINE_string("tpu", "v5p", "the generation whose peak counts")
    flags.DEFINE_float("utilisation", 0.4, "share of the peak that is reached", lower_bound=0.01, upper_bound=1.0)
    flags.DEFINE_float("sweeps", 2.4, "sweeps through the textbooks that the exemplary actor needs", lower_bound=1.0)
    flags.DEFINE_float("texts", 1e6, "texts that are trained on, each once", lower_bound=1.0)


if __name__ == "__main__":
    define_flags()
    cli.main(main, config="babyai_scale:8b")
