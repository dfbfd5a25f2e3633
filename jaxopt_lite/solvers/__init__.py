"""Floor 1: the methods, and what runs, verifies, differentiates and reports them.

Files, in reading order; each imports only from those above it:

- `line_search`: a step length, by one evaluation at a time.
- `quasi_newton`: the iteration that BFGS and L-BFGS share.
- `trust_region`: the fallback of minimizing.
- `keywords`: what there is here for the keywords of other libraries.
- `bfgs`, `lbfgs`: the inverse Hessian, as a matrix or as the last steps.
- `broyden_family`: the iteration that both forms of Broyden's method share.
- `damped_newton`: the fallback of root finding.
- `broyden`, `limited_broyden`: the inverse Jacobian, as a matrix or as a few terms.
- `losses`: what residuals are worth in least squares.
- `levenberg_marquardt`: a trust region around a linear model of residuals.

From a batch to a solution:

- `covariance`: how well the data determine the unknowns of a fit.
- `solution`: what comes out.
- `box`: bounds on the unknowns.
- `tolerances`: what settings there are by default, and for each problem.
- `choice`: how a batch is solved, decided once.
- `implicit`: derivatives by the implicit function theorem.
- `pipeline`: run the methods, verify every answer, report.
- `solve`: `root` and `minimize`.
- `fixed_point`: roots of x − g(x).
- `least_squares`: curve fits.
- `multistart`, `chunks`, `explain`: many starts; long batches; how a batch would be solved.
- `certify`: autodiff's verdict on points from anywhere.
"""
