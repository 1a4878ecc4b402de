"""Drains the queue of deferred work: batches are read, done after all else, written."""
