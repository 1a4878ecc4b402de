"""Work that need not be answered at once: where it waits, and what came of it.

A batch is a file of requests, one a line; each becomes a job. Whoever drains the queue, of which
there may be any number, takes jobs and tells how they ended; what was told first stands.
"""
