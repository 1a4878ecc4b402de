"""The queue as one SQLite file, of any number of processes on one machine."""
