"""What the training code of a repository writes with joblib or pickle for the service to load."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mega_optimizer.codemods.ml.origins import origins
from mega_optimizer.repository.place import Place
from mega_optimizer.repository.python.roles import is_test

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.ml.origins import Origin
    from mega_optimizer.repository.python import Call, PythonFacts, Value

_DUMPS = ("joblib.dump", "pickle.dump", "cloudpickle.dump")
_FILE = re.compile(rb"[\w.-]+\.(?:joblib|pkl|pickle|bin|sav)\b")
# Their converters are in skl2onnx itself, and give numbers for numbers.
# https://onnx.ai/sklearn-onnx/supported.html
# HistGradientBoosting of scikit-learn 1.9.1 is not converted by skl2onnx 1.20 (it fails).
_MODEL = re.compile(
    r"sklearn\.(?:ensemble|tree|neural_network)\.(?:\w+\.)*"
    r"(?:RandomForest|ExtraTrees|GradientBoosting|DecisionTree|ExtraTree|MLP)"
    r"(?:Classifier|Regressor)"
)
# These need converters of onnxmltools.
_BOOSTED = re.compile(
    r"lightgbm\.(?:sklearn\.)?LGBM(?:Classifier|Regressor)"
    r"|xgboost\.(?:sklearn\.)?XGB(?:Classifier|Regressor)"
)
_STEP = re.compile(
    r"sklearn\.preprocessing\.(?:\w+\.)*(?:StandardScaler|MinMaxScaler|MaxAbsScaler|RobustScaler)"
    r"|sklearn\.impute\.(?:\w+\.)*SimpleImputer|sklearn\.decomposition\.(?:\w+\.)*PCA"
)
PIPELINES = ("sklearn.pipeline.Pipeline", "sklearn.pipeline.make_pipeline")
_WIDE = 512  # a layer of that width computes longer than the call of scikit-learn takes


@dataclass(frozen=True, slots=True)
class Dumped:
    """A model that is written at ``place``; ``boosted`` for one of LightGBM or XGBoost."""

    kind: str
    boosted: bool
    place: Place


def dumped_model(context: Context, loading: str) -> Dumped | tuple[str, str]:
    """Return the only model that is written for the module ``loading``, else code and reason."""
    found: dict[str, Dumped] = {}
    seen = False
    for place, values in written_values(context, loading):
        seen = True
        if not values:
            return "model-not-known", f"what {place.path}:{place.line} writes cannot be seen"
        for origin in values:
            if _STEP.fullmatch(origin.value.name or ""):
                continue  # a scaler beside the model
            model = _model(context, origin, place)
            if isinstance(model, tuple):
                return model
            found[model.kind] = model
    if not seen:
        return "model-not-known", "no code here writes the model, so its kind cannot be seen"
    if len(found) > 1:
        return "several-models", f"{' and '.join(sorted(found))} are written"
    return next(iter(found.values()), ("model-not-known", "only preprocessing is written here"))


def written_values(context: Context, loading: str) -> Iterator[tuple[Place, tuple[Origin, ...]]]:
    """Yield where something is written for the module ``loading``, and what it may be.

    It is empty where that cannot be seen.
    """
    for facts, call in _dumps(context, loading):
        written = call.positional[0] if call.positional else None
        values = _values(context, facts, call, written) if written is not None else ()
        yield Place(facts.path, call.line), values


def _dumps(context: Context, loading: str) -> Iterator[tuple[PythonFacts, Call]]:
    """Yield the calls that write models, in the service or for a file that it names."""
    files = context.files
    content = context.program.read(loading) or b""
    names = set(_FILE.findall(content))
    for module in context.program.imports(loading):
        names |= set(_FILE.findall(context.program.read(module) or b""))
    own = set(context.program.product)
    holding = files.with_word(b"dump") & (
        files.with_word(b"joblib") | files.with_word(b"pickle") | files.with_word(b"cloudpickle")
    )
    for path in sorted(each for each in holding if each.endswith(".py") and not is_test(each)):
        text = context.program.read(path) or b""
        if path not in own and not names & set(_FILE.findall(text)):
            continue
        facts = context.program.facts(path)
        if facts is not None:
            yield from ((facts, call) for call in facts.called(*_DUMPS))


def _values(context: Context, facts: PythonFacts, call: Call, written: Value) -> tuple[Origin, ...]:
    if written.kind not in ("name", "attribute"):
        return ()
    return origins(context.program, facts, written.text, call.scope)


def _model(context: Context, origin: Origin, place: Place) -> Dumped | tuple[str, str]:
    name = origin.value.name if origin.value.kind == "call" else None
    if name in PIPELINES:
        return _last_step(context, origin, place)
    if name is None or not (_MODEL.fullmatch(name) or _BOOSTED.fullmatch(name)):
        what = origin.value.text or "something else"
        reason = f"{place.path}:{place.line} writes {what}, which is no tree or network known here"
        return "model-not-known", reason
    sizes = origin.value.argument("hidden_layer_sizes")
    widths = [each.value.constant for each in sizes.arguments] if sizes is not None else []
    widths += [sizes.constant] if sizes is not None else []
    if any(isinstance(each, int) and each > _WIDE for each in widths):
        return "network-large", "its layers compute longer than a call of scikit-learn takes"
    return Dumped(name.rpartition(".")[2], _BOOSTED.fullmatch(name) is not None, place)


def _last_step(context: Context, origin: Origin, place: Place) -> Dumped | tuple[str, str]:
    """Return the model at the end of a pipeline all of whose other steps can be converted."""
    named = steps_of(origin.value)
    if not named:
        return "model-not-known", "the steps of the pipeline cannot be seen"
    steps = [step for _, step in named]
    for step in steps[:-1]:
        if step.kind != "call" or step.name is None or not _STEP.fullmatch(step.name):
            what = step.text or "a step"
            return "custom-transformer", f"{what} of the pipeline has no converter known here"
    return _model(context, replace(origin, value=steps[-1]), place)


def steps_of(pipeline: Value) -> list[tuple[str, Value]]:
    """Return the names and steps of a pipeline that is made here, none where one is not seen."""
    given = [each.value for each in pipeline.arguments if each.keyword in (None, "steps")]
    if any(each.star for each in pipeline.arguments):
        return []
    if pipeline.name != "sklearn.pipeline.Pipeline":
        # https://scikit-learn.org/stable/modules/generated/sklearn.pipeline.make_pipeline.html
        return [((each.name or "").rpartition(".")[2].lower(), each) for each in given]
    pairs = [each.value.arguments for each in given[0].arguments] if given else []
    if any(len(pair) != 2 or not isinstance(pair[0].value.constant, str) for pair in pairs):
        return []
    return [(str(name.value.constant), step.value) for name, step in pairs]
