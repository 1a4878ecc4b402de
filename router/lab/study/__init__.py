"""Simulations as operators run them: policies beside baselines and bound, files and a report."""
