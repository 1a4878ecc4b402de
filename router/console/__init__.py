"""The console: what one gateway shows of itself to people who look on, and nothing that it does.

Read-only. What is shown is worked out once a tick for all who look on, and not at all while nobody
does; every figure is that of a metric, a receipt or a decision.
"""
