"""One thread for linear algebra; imported before anything that imports numpy.

Every matrix here is small (forecasts: some thirty columns), so that a second thread costs more than
it brings: with two processes on two cores a plan of a month took twice the CPU time. Whoever sets
these variables is obeyed.
"""

import os

for variable in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
