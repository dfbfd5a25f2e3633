"""Real problems: power flow (root finding) and NIST regressions (minimisation) with published answers, and real text.

`network`, `power_flow`, `nist` and `regression` hold problems and data; they import no solver, so that each can be
read, and solved, by itself. `lowest_voltage` and `confidence` solve ten thousand of each kind and say what the
answers mean; `encoding` learns a tokenizer, and tries it; `specialists` fits one to each of many modules. What they
compile, `programs` compiles in a second thread. `python -m jaxopt_lite` runs all four.
"""
