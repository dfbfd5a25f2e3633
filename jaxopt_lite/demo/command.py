"""`jaxopt-lite demo`: the four parts of the demonstration, one after the other."""

import argparse

import jax
from rich.console import Console

from jaxopt_lite.bpe.command import INTERRUPTED
from jaxopt_lite.demo import confidence, encoding, lowest_voltage, specialists
from jaxopt_lite.demo.batches import Tally
from jaxopt_lite.demo.programs import Compiler, in_a_hurry
from jaxopt_lite.progress import interruptible

__all__ = ["demo"]

_ABOUT = (
    "Four jobs, and every answer is verified: a tokenizer learned from text, a specialist for each of many modules, "
    "power flows of a grid under random loads, and regressions with published answers. Meanwhile a second thread "
    "compiles what comes later."
)
_TEXTS_QUICK = 10  # one text in this many
_STEPS_QUICK = 100


def demo(options: argparse.Namespace, console: Console) -> int:
    """Run all four parts, and say whether everything was solved and verified."""
    jax.config.update("jax_enable_x64", True)  # certified digits and tight tolerances want float64
    tallies: list[Tally] = []
    try:
        with interruptible(), Compiler(options.quick) as compiler, in_a_hurry(options.quick):
            _run(options, compiler, console, tallies)
    except KeyboardInterrupt:
        console.print("\nStopped. Until then:")
        for tally in tallies:
            console.print(
                f"  {tally.name}: {tally.size:,} problems, {tally.reached:,} reached, {tally.solved:,} solved"
            )
        return INTERRUPTED
    incomplete = [tally.name for tally in tallies if not tally.is_complete]
    console.print()
    console.print(f"Not all solved and verified: {', '.join(incomplete)}" if incomplete else "All solved and verified.")
    return 1 if incomplete else 0


def _run(options: argparse.Namespace, compiler: Compiler, console: Console, tallies: list[Tally]) -> None:
    """The parts, ordered by what they compile: what the last ones need is compiled while others run.

    Encoding runs before that, alone, because its speed is shown.
    """
    every, steps = (_TEXTS_QUICK, _STEPS_QUICK) if options.quick else (1, specialists.STEPS)
    console.print(_ABOUT)
    if options.quick:
        console.print(
            "Quick: where you do not say how many, a tenth of the problems, texts and specialists. The specialists' "
            f"base is trained for {steps} steps, not {specialists.STEPS}. Compiled in a hurry, all of it solves slower."
        )
    encoding.run(options.text, console, tallies, every)
    flow = lowest_voltage.prepare(compiler)
    regressions = [confidence.prepare(name, compiler) for name in confidence.SUBJECTS]
    specialists.run(options.specialists, options.seed, console, tallies, steps=steps)
    lowest_voltage.run(flow, options.scenarios, options.seed, console, tallies)
    for programs in regressions:
        confidence.run(programs, options.refits, options.seed, console, tallies)
