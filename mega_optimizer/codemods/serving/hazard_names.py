"""Qualified names of what speaks against several processes: each is a hazard where it is used."""

from __future__ import annotations

import re

SCHEDULERS = frozenset(
    {
        "apscheduler",
        "flask_apscheduler",
        "fastapi_utils",
        "fastapi_utilities",
        "schedule",
        "rocketry",
    }
)
SOCKETS = frozenset({"socketio", "flask_socketio", "flask_sock"})
METRICS = frozenset(
    {
        "prometheus_client", "prometheus_fastapi_instrumentator", "starlette_exporter",
        "prometheus_flask_exporter", "starlette_prometheus", "aioprometheus",
    }
)  # fmt: skip
LOCKS = frozenset(
    {
        "threading.Lock", "threading.RLock", "threading.Semaphore", "threading.Condition",
        "threading.BoundedSemaphore", "asyncio.Lock", "asyncio.Semaphore", "asyncio.Condition",
        "asyncio.BoundedSemaphore", "anyio.Lock", "anyio.CapacityLimiter", "anyio.Semaphore",
    }
)  # fmt: skip
CACHES = frozenset(
    {
        "cachetools.TTLCache", "cachetools.LRUCache", "cachetools.LFUCache", "cachelib.SimpleCache",
        "cachelib.simple.SimpleCache", "aiocache.SimpleMemoryCache", "diskcache.Cache",
        "fastapi_cache.backends.inmemory.InMemoryBackend", "werkzeug.contrib.cache.SimpleCache",
    }
)  # fmt: skip
LIMITERS = frozenset({"slowapi.Limiter", "flask_limiter.Limiter"})
WORKING = frozenset(
    {
        "threading.Thread", "threading.Timer", "multiprocessing.Process", "asyncio.create_task",
        "asyncio.ensure_future",
    }
)  # fmt: skip
MODEL_LOADERS = frozenset(
    {
        "joblib.load", "pickle.load", "pickle.loads", "cloudpickle.load", "dill.load", "torch.load",
        "torch.jit.load", "onnxruntime.InferenceSession", "spacy.load", "whisper.load_model",
        "transformers.pipeline", "sentence_transformers.SentenceTransformer", "ultralytics.YOLO",
        "tensorflow.keras.models.load_model", "keras.models.load_model",
        "tensorflow.saved_model.load",
        "easyocr.Reader", "faster_whisper.WhisperModel", "llama_cpp.Llama", "fasttext.load_model",
        "gensim.models.KeyedVectors.load", "mlflow.pyfunc.load_model", "mlflow.sklearn.load_model",
        "xgboost.Booster", "lightgbm.Booster", "catboost.CatBoostClassifier",
    }
)  # fmt: skip
# SQLAlchemy's, Flask-SQLAlchemy's and SQLModel's; Alembic's alembic.command.upgrade
MAKES_TABLES = (".metadata.create_all", "db.create_all", "command.upgrade")
CONNECTIONS = re.compile(r"connection|socket|client|active|room|subscri|manager|hub|broadcast")
RANDOM = frozenset(
    {"os.urandom", "secrets.token_hex", "secrets.token_bytes", "secrets.token_urlsafe",
     "uuid.uuid4", "fernet.generate_key", "cryptography.fernet.Fernet.generate_key"}
)  # fmt: skip
