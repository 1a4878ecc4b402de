"""Batches and files of OpenAI's API, and how a line of one is asked of the fleet."""
