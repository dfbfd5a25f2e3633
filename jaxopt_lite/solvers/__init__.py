"""Floor 1: the methods, and the code that runs, verifies, differentiates and reports them.

Files, in reading order; each imports only from those above it:

- `line_search`: a step length, by one evaluation at a time.
- `quasi_newton`: the iteration that BFGS and L-BFGS share.
- `trust_region`: the fallback for minimization and least squares.
- `keywords`: what to use here for keywords of other libraries.
- `tolerances`: default tolerances, and a solver's settings.
- `bfgs`, `lbfgs`: the inverse Hessian, as a matrix or as the last steps.
- `broyden_family`: the iteration that both forms of Broyden's method share.
- `damped_newton`: the fallback for root finding.
- `broyden`, `limited_broyden`: the inverse Jacobian, as a matrix or as a few terms.
- `levenberg_marquardt`: a trust region around a linear model of residuals.

From a batch to a solution:

- `covariance`: how well the data determine the unknowns of a fit.
- `solution`: what a solve returns.
- `box`: bounds on the unknowns.
- `choice`: how a batch is solved, decided once.
- `implicit`: derivatives by the implicit function theorem.
- `verification`: what autodiff finds at an answer, and the status by it.
- `pipeline`: run the methods, have every answer verified, report.
- `solve`: `root` and `minimize`.
- `fixed_point`: roots of x − g(x).
- `least_squares`: curve fits.
- `multistart`, `chunks`, `explain`: many starts; long batches; how a batch would be solved.
- `certify`: autodiff's verdict on points from any source.
"""
