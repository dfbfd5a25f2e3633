"""The routers: what their scores are, and how their thresholds are set."""
