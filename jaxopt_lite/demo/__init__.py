"""Real problems with published answers: power flow (root finding), NIST regressions (minimisation).

`network`, `power_flow`, `nist` and `regression` hold problems and data; they import no solver, so that each can be
read, and solved, by itself. `lowest_voltage` and `confidence` solve ten thousand of each kind and say what the
answers mean; `python -m jaxopt_lite` runs both.
"""
