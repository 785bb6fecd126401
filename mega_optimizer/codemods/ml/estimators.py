"""Which variables hold an estimator with scikit-learn's ``predict``, and what one was trained as.

Its contract is one result for each row, and no row changes the result of another
(https://scikit-learn.org/stable/glossary.html#term-predict).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mega_optimizer.codemods.ml.origins import origins, own_classes

if TYPE_CHECKING:
    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.ml.origins import Origin
    from mega_optimizer.codemods.program import Program
    from mega_optimizer.repository.python import PythonFacts

METHODS = frozenset(
    {"predict", "predict_proba", "predict_log_proba", "decision_function", "score_samples"}
)
# They give back whatever was written, so what else the service depends on decides.
_ANYTHING = frozenset(
    {
        "joblib.load", "pickle.load", "pickle.loads", "cloudpickle.load", "cloudpickle.loads",
        "dill.load", "dill.loads", "skops.io.load",
    }
)  # fmt: skip
_ESTIMATORS = frozenset({"mlflow.sklearn.load_model", "sklearn.pipeline.make_pipeline"})
_CONSTRUCTORS = re.compile(r"sklearn\.(?:\w+\.)+[A-Z]\w+|xgboost\.XGB\w+|lightgbm\.LGBM\w+")
_PACKAGES = ("scikit-learn", "lightgbm", "xgboost")
# Pickled models of these take a list as several inputs of one example.
_OTHERS = ("tensorflow", "keras", "tensorflow-cpu", "tf-nightly", "pycaret", "surprise")


def is_estimator(context: Context, facts: PythonFacts, text: str, scope: str) -> bool:
    """Whether everything that the dotted ``text`` may hold is an estimator."""
    found = origins(context.program, facts, text, scope)
    return bool(found) and all(_makes_estimator(context, each) for each in found)


def _makes_estimator(context: Context, origin: Origin) -> bool:
    value = origin.value
    if value.kind != "call" or value.name is None:
        return False
    if value.name in _ANYTHING:
        declared = context.dependencies
        return any(each in declared for each in _PACKAGES) and not any(
            each in declared for each in _OTHERS
        )
    return value.name in _ESTIMATORS or _CONSTRUCTORS.fullmatch(value.name) is not None


def own_estimator(program: Program) -> str | None:
    """Return a module that defines an estimator or transformer, which may look at other rows."""
    for word in ("BaseEstimator", "TransformerMixin", "ClassifierMixin", "RegressorMixin"):
        for path in own_classes(program, word):
            return path
    for path in program.with_word("FunctionTransformer"):
        facts = program.facts(path)
        if facts and any(each.text.endswith("FunctionTransformer") for each in facts.calls):
            return path
    return None
