"""Real problems: power flow (root finding) and NIST regressions (least squares) with published answers, and real text.

Files, in reading order; each imports only from those above it. Problems and data, which import no solver and can be
read, and solved, by themselves:

- `network`: bus, generator and branch tables.
- `power_flow`: AC power flow as root finding.
- `nist`: NIST's files of nonlinear regressions.
- `regression`: the regressions as least squares.

What `jaxopt-lite demo` runs:

- `batches`: a long batch, shown, certified and counted.
- `report`: the counts and times of a batch, printed.
- `programs`: what the parts run, compiled in a second thread.
- `lowest_voltage`: ten thousand power flows.
- `confidence`: ten thousand refits of each of three regressions.
- `encoding`: a tokenizer, learned and tried.
- `modules`: the modules of Python's standard library as texts.
- `specialists`: one for each of many modules.
- `command`: all of these, one after the other.
"""
