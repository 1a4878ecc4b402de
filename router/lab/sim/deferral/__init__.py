"""Requests that may wait, in a scenario: when the product's own scheduler lets them go."""
