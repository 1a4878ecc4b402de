"""Fits the ``linear`` model of tests/real/models: predict(x) = 2 x0 + 3 x1 + 1, exactly known.

Run by .venv-real's Python: ``train.py MODELS_DIR``.
"""

import sys
from pathlib import Path

import joblib
import numpy as np
from sklearn.linear_model import LinearRegression

GRID = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])

if __name__ == "__main__":
    model = LinearRegression().fit(GRID, 2.0 * GRID[:, 0] + 3.0 * GRID[:, 1] + 1.0)
    joblib.dump(model, Path(sys.argv[1]) / "linear" / "linear.joblib")
