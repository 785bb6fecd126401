"""Estimators of scikit-learn and LightGBM, and the same in ONNX Runtime."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

import joblib
import lightgbm
import numpy as np
import onnxruntime
from case import Case
from onnxruntime.quantization import quantize_dynamic
from skl2onnx import to_onnx
from sklearn.ensemble import GradientBoostingRegressor, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

FEATURES = 20
ROWS = 100
generator = np.random.default_rng(7)
X = generator.normal(size=(2000, FEATURES)).astype(np.float32)
Y = (X[:, 0] + 0.5 * X[:, 1] + generator.normal(scale=0.3, size=2000) > 0).astype(int)
BATCH = X[:ROWS].tolist()


@cache
def forest(jobs=None):
    return RandomForestClassifier(60, max_depth=8, random_state=7, n_jobs=jobs).fit(X, Y)


@cache
def boosting():
    return GradientBoostingRegressor(n_estimators=200, random_state=7).fit(X, Y)


@cache
def leaves():
    return lightgbm.LGBMClassifier(n_estimators=100, verbose=-1, n_jobs=1).fit(X, Y)


@cache
def linear():
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(X, Y)


@cache
def network():
    return MLPClassifier((256, 256), max_iter=20, random_state=7).fit(X, Y)


def loaded(_):
    path = Path(tempfile.mkdtemp()) / "forest.joblib"
    joblib.dump(forest(), path)
    kept = joblib.load(path)
    row = BATCH[:1]
    return lambda: joblib.load(path).predict_proba(row), lambda: kept.predict_proba(row)


def vectorized(make, method):
    def build(_):
        predict = getattr(make(), method)
        return lambda: np.array([predict([row])[0] for row in BATCH]), lambda: predict(BATCH)

    return build


def one_row(jobs):
    def build(_):
        many, one = forest(jobs), forest(1)
        return lambda: many.predict_proba(BATCH[:1]), lambda: one.predict_proba(BATCH[:1])

    return build


def session(content):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def converted(make, rows, *, quantized=False):
    def build(_):
        model = make()
        content = to_onnx(model, X[:1], options={id(model): {"zipmap": False}}).SerializeToString()
        if quantized:
            folder = Path(tempfile.mkdtemp())
            (folder / "model.onnx").write_bytes(content)
            quantize_dynamic(folder / "model.onnx", folder / "int8.onnx")
            content = (folder / "int8.onnx").read_bytes()
        runtime, values = session(content), X[:rows]
        name = runtime.get_inputs()[0].name
        return lambda: model.predict_proba(values), lambda: runtime.run(None, {name: values})[1]

    return build


CASES = (
    Case("ml/model-cache", "forest of 60 trees: `joblib.load` a request → kept", loaded),
    Case("ml/vectorize-predict", "forest: 100 × `predict_proba([row])` → one call",
         vectorized(forest, "predict_proba"), ROWS),
    Case("ml/vectorize-predict", "gradient boosting: 100 × `predict([row])` → one call",
         vectorized(boosting, "predict"), ROWS),
    Case("ml/vectorize-predict", "LightGBM: 100 × `predict_proba([row])` → one call",
         vectorized(leaves, "predict_proba"), ROWS),
    Case("ml/vectorize-predict", "scaler and logistic regression: 100 × `predict_proba([row])` → one call",
         vectorized(linear, "predict_proba"), ROWS),
    Case("ml/threads", "forest, one row: `n_jobs=-1` → 1", one_row(-1)),
    Case("ml/onnx-runtime", "forest, one row: scikit-learn → ONNX Runtime", converted(forest, 1)),
    Case("ml/onnx-runtime", "forest, 100 rows: scikit-learn → ONNX Runtime",
         converted(forest, ROWS), ROWS),
    Case("ml/onnx-runtime", "network 20-256-256, one row: scikit-learn → ONNX Runtime",
         converted(network, 1)),
    Case("ml/int8", "network 20-256-256, one row: scikit-learn → ONNX Runtime INT8",
         converted(network, 1, quantized=True)),
)  # fmt: skip
