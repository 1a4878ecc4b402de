"""What the workers of one gateway know of each other, in memory that they share.

`rows`: a row for each process; `loads`: requests in flight and caps, over all of them; `pins`:
where sequences live; `receipts`: of the last answers; `beats`: who stands still; `memory`: the
memory itself, the only I/O here.
"""
