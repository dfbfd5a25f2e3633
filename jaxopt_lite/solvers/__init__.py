"""Floor 1: the solvers and what checks, reports and differentiates their answers. Imports `lanes` only."""
