"""The cases, in the order of the table. A rule may have several; a service may serve several."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.serving.case import Case, Request, Service

POSTGRES = {"DATABASE_URL": "postgresql://{postgres}", "LOG_LEVEL": "INFO"}
SERIES = {
    "symbol": "btc",
    "prices": [64100.0, 64350.5, 64010.0, 64800.0, 65120.0, 64990.0, 65410.0, 65800.0],
    "volumes": [1180.0, 1240.5, 1110.0, 1390.0, 1502.0, 1320.0, 1450.0, 1610.0],
}
ALERT = {
    "to": "ann@example.com",
    "template": "price-alert",
    "values": {"symbol": "BTC", "price": "70000"},
}
GATEWAY = Service(
    "api-gateway",
    "/health",
    port=8000,
    environment={
        "PREDICTION_URL": "{upstream}",
        "ORCHESTRATOR_URL": "{upstream}",
        "REDIS_URL": "redis://127.0.0.1:{redis_port}/0",
    },
)
CRYPTO = Service(
    "crypto-prediction",
    "/health",
    port=8001,
    environment=POSTGRES,
    prepare=("python train.py",),
)
ORCHESTRATOR = Service(
    "orchestrator",
    "/health",
    port=8002,
    environment={"DATABASE_URL": "postgresql+psycopg://{postgres}", "PORT": "{port}"},
    prepare=("python -m app.prestart",),
)
BACKLOG = replace(
    ORCHESTRATOR,
    rows="""\
INSERT INTO tasks (name, kind, status, priority, payload, attempts, created_at, updated_at)
SELECT 'retrain', 'generic', CASE n % 1000 WHEN 0 THEN 'failed' ELSE 'done' END, n % 10 + 1,
    '{"symbol": "BTC", "epochs": 3}', 1, timestamptz '2026-12-01', timestamptz '2026-12-01'
FROM generate_series(1, 200000) AS n;
ANALYZE tasks
""",
)
FRAUD = Service(
    "fraud-detection",
    "/health",
    port=8003,
    environment={**POSTGRES, "PORT": "{port}"},
    prepare=("python train.py",),
    schema="services/fraud-detection/schema.sql",
)
SCALER = Service(
    "auto-scaler",
    "/health",
    port=8004,
    environment={
        "REDIS_URL": "redis://127.0.0.1:{redis_port}/0",
        "METRICS_URL": "{upstream}",
        "CLUSTER_URL": "{upstream}",
        "PORT": "{port}",
        "DECISION_INTERVAL": "3600",
    },
)
NOTIFICATION = Service(
    "notification",
    "/health",
    port=8005,
    environment={"REDIS_HOST": "127.0.0.1", "REDIS_PORT": "{redis_port}", "SMTP_PORT": "1"},
)
# A model of some tens of megabytes, loaded by each process.
FOREST = (
    'python -c "import joblib, numpy; from sklearn.ensemble import RandomForestClassifier as F; '
    "r = numpy.random.default_rng(1); x = r.random((20000, 4)); "
    "y = r.integers(0, 2, 20000); joblib.dump(F(30).fit(x, y), 'model.joblib')\""
)
BOOSTED = (
    'python -c "import joblib, numpy; '
    "from sklearn.ensemble import GradientBoostingClassifier as G; "
    "r = numpy.random.default_rng(1); x = r.random((2000, 2)); "
    "y = r.integers(0, 3, 2000); joblib.dump(G().fit(x, y), 'iris.joblib')\""
)
FLOWERS = Service(
    "rules/ml/batch-inference/examples/thread-route.txtar",
    "/openapi.json",
    port=8000,
    environment={"OMP_NUM_THREADS": "1"},
    command="uvicorn main:app --port 8000",
    prepare=(BOOSTED,),
)
PRELOAD = Service(
    "rules/serving/preload/examples/image.txtar",
    "/predict",
    port=8000,
    environment={"OMP_NUM_THREADS": "1"},
    prepare=(FOREST,),
)
ORDERS = Service(
    "rules/serving/flask-to-fastapi/examples/orders.txtar",
    "/orders",
    port=8080,
    environment={"PORT": "{port}"},
)
CRYPTO_WITH_QUEUE = replace(
    CRYPTO,
    environment={
        **CRYPTO.environment,
        "REDIS_URL": "redis://127.0.0.1:{redis_port}/0",
        "OMP_NUM_THREADS": "1",
    },
)
RETRIES = Service(
    "rules/async/async-sleep/examples/retry.txtar",
    "/openapi.json",
    port=8000,
    command="uvicorn main:app --port 8000",
)
STOCK = Service(
    "rules/cache/local-cache/examples/sync-in-a-package-with-relative-imports.txtar",
    "/",
    port=8000,
    environment={"UPSTREAM": "{upstream}"},
    command="uvicorn app.main:app --port 8000",
)
ITEMS = Service(
    "rules/http/requests-session/examples/upstream.txtar",
    "/openapi.json",
    port=8000,
    environment={"UPSTREAM": "{upstream}"},
    command="uvicorn main:app --port 8000",
)
CATALOGUE = Service(
    "rules/serving/gzip-level/examples/catalogue.txtar",
    "/openapi.json",
    port=8000,
    command="uvicorn main:app --port 8000",
)
SHOP = Service(
    "rules/database/async-database/examples/shop.txtar",
    "/openapi.json",
    port=8000,
    environment={"DATABASE_URL": "postgresql+psycopg://{postgres}"},
    command="uvicorn app.main:app --port 8000",
    rows="""\
CREATE TABLE items (id serial PRIMARY KEY, name text, stock integer, created_at timestamp);
INSERT INTO items (name, stock, created_at) SELECT 'pen ' || n, n, now()
FROM generate_series(1, 10) AS n;
ANALYZE items
""",
)
SLOW_SHOP = replace(
    SHOP,
    rows=f"""{SHOP.rows};
ALTER TABLE items RENAME TO stored;
CREATE VIEW items AS SELECT stored.* FROM stored, pg_sleep(0.02)
""",
)
LONG_SERIES = {
    "symbol": "btc",
    "prices": [100.0 + (7 * number) % 11 for number in range(16)],
    "volumes": [10.0 + (3 * number) % 7 for number in range(16)],
}
SEED_ALERTS = Request("/notifications/email", "POST", ALERT)
NAMES = ("ann", "bob", "carla", "dmitri", "eve", "farid", "grace", "hiro")
SYMBOLS = ("BTC", "ETH", "SOL", "ADA", "XRP", "DOT", "LTC")
# To different people, of different prices: how much alerts are alike decides what zlib has to do.
ALERTS = tuple(
    Request(
        "/notifications/email",
        "POST",
        {
            "to": f"{NAMES[number % 8]}.{number * 7919 % 9973}@example.com",
            "template": "price-alert",
            "values": {
                "symbol": SYMBOLS[number % 7],
                "price": f"{number * 104729 % 7000000 / 100:.2f}",
            },
        },
    )
    for number in range(500)
)
SEED_TASK = Request(
    "/tasks", "POST", {"name": "retrain", "payload": {"symbol": "BTC", "epochs": 3}}
)

CASES = (
    Case(
        "serving/uvloop",
        GATEWAY,
        Request("/api/v1/items/42"),
        "one small JSON object from memory",
    ),
    Case(
        "serving/flask-to-fastapi",
        ORDERS,
        Request("/orders?limit=10"),
        "ten orders from memory",
        seed=(Request("/orders", "POST", {"item": "pens", "count": 2, "price": 1.2}),),
        seeds=10,
    ),
    Case(
        "serving/production-server",
        FRAUD,
        Request("/health"),
        "one small JSON object",
    ),
    Case(
        "serving/production-server",
        FRAUD,
        Request("/alerts"),
        "a query over a new connection of psycopg2",
    ),
    Case(
        "serving/workers",
        NOTIFICATION,
        Request("/notifications?limit=50"),
        "50 notifications from Redis",
        seed=(SEED_ALERTS,),
        seeds=50,
        given=("cache/lru-settings", "database/redis-client"),
    ),
    Case(
        "serving/preload",
        PRELOAD,
        Request("/predict", "POST", [0.1, 0.2, 0.3, 0.4]),
        "one prediction by a random forest, four processes",
    ),
    Case(
        "serving/access-log",
        ORCHESTRATOR,
        Request("/health"),
        "one small JSON object, logged by middleware as well",
    ),
    Case(
        "serving/gzip-level",
        CATALOGUE,
        Request("/items", headers={"Accept-Encoding": "gzip"}),
        "1,000 dicts from memory, 120 kB of JSON, compressed",
        seconds=6,
    ),
    Case(
        "serving/uvicorn-worker",
        NOTIFICATION,
        Request("/health"),
        "one small JSON object behind two middlewares",
    ),
    Case(
        "serving/asgi-middleware",
        NOTIFICATION,
        Request("/health"),
        "one small JSON object behind two middlewares",
    ),
    Case(
        "serving/asgi-middleware",
        ORCHESTRATOR,
        Request("/health"),
        "one small JSON object behind one middleware that logs",
    ),
    Case(
        "serving/gzip-level",
        NOTIFICATION,
        Request("/notifications?limit=500", headers={"Accept-Encoding": "gzip"}),
        "500 notifications to different people, 140 kB of JSON, compressed",
        seed=ALERTS,
        seconds=6,
    ),
    Case(
        "json/typed-response",
        GATEWAY,
        Request("/api/v1/items"),
        "1,000 dicts from an untyped route",
        seconds=6,
    ),
    Case(
        "json/orjson-response",
        GATEWAY,
        Request("/api/v1/items"),
        "1,000 dicts from an untyped route",
        seconds=6,
    ),
    Case(
        "json/drop-orjson-response",
        ORCHESTRATOR,
        Request("/tasks?limit=200"),
        "200 rows of PostgreSQL through a response model",
        given=("database/engine-per-request",),
        seed=(SEED_TASK,),
        seeds=200,
        seconds=6,
    ),
    Case(
        "json/orjson-dumps",
        GATEWAY,
        Request("/api/v1/items/export"),
        "1,000 dicts as the body of a response",
        seconds=6,
    ),
    Case(
        "json/orjson-dumps-options",
        GATEWAY,
        Request("/api/v1/items/download"),
        "1,000 dicts, indented and sorted",
        seconds=6,
    ),
    Case(
        "http/shared-client",
        GATEWAY,
        Request("/api/v1/tasks/7"),
        "forwarded by httpx",
    ),
    Case(
        "http/shared-client",
        SCALER,
        Request("/services/api-gateway/usage"),
        "one query to the metrics by httpx",
        connections=4,
        seconds=6,
    ),
    Case(
        "async/async-sleep",
        RETRIES,
        Request("/orders?item=", "POST"),
        "three attempts, with pauses of 0.2 to 0.6 s",
        connections=4,
        seconds=6,
    ),
    Case(
        "async/blocking-call",
        SCALER,
        Request("/services/api-gateway/scale", "POST", {"replicas": 3}),
        "one call of the cluster, which takes 50 ms, by requests in a coroutine",
        seed=(Request("/policies/api-gateway", "PUT", {"max_replicas": 6, "target_cpu": 0.5}),),
        delay=50,
    ),
    Case(
        "http/shared-ssl-context",
        GATEWAY,
        Request("/api/v1/tasks/7"),
        "forwarded by httpx, a client for each request",
    ),
    Case(
        "http/requests-session",
        ITEMS,
        Request("/stock/7"),
        "one call of another service by requests, over plain HTTP",
    ),
    Case(
        "database/engine-per-request",
        ORCHESTRATOR,
        Request("/tasks/1"),
        "one row of PostgreSQL, psycopg 3",
        seed=(SEED_TASK,),
    ),
    Case(
        "database/engine-per-request",
        CRYPTO,
        Request("/predictions/1"),
        "one row of PostgreSQL, psycopg2",
        seed=(Request("/predict", "POST", SERIES),),
    ),
    Case(
        "database/connection-pool",
        FRAUD,
        Request("/alerts"),
        "one query of psycopg2",
        given=("serving/production-server",),
    ),
    Case(
        "database/redis-client",
        NOTIFICATION,
        Request("/notifications/stats"),
        "one HGETALL",
        given=("cache/lru-settings",),
        seed=(SEED_ALERTS,),
    ),
    Case(
        "cache/lru-settings",
        NOTIFICATION,
        Request("/notifications/stats"),
        "one HGETALL",
        seed=(SEED_ALERTS,),
    ),
    Case(
        "cache/redis-response",
        GATEWAY,
        Request("/api/v1/predictions?symbol=btc"),
        "forwarded to an upstream that takes 50 ms",
        given=("http/shared-client",),
        delay=50,
    ),
    Case(
        "cache/redis-response",
        GATEWAY,
        Request("/status"),
        "the health of two upstreams that take 50 ms",
        given=("http/shared-client",),
        varies=("latency_ms",),
        delay=50,
    ),
    Case(
        "cache/redis-response",
        GATEWAY,
        Request("/api/v1/predictions?symbol=btc"),
        "a route that asks an upstream which takes 50 ms, a client shared before and after",
        given=("http/shared-client",),
        connections=4,
        delay=50,
    ),
    Case(
        "cache/local-cache",
        STOCK,
        Request("/stock/status"),
        "a route that asks an upstream which takes 50 ms",
        connections=4,
        delay=50,
    ),
    Case(
        "database/pool-size",
        ORCHESTRATOR,
        Request("/tasks/1"),
        "one row of PostgreSQL for 24 callers at a time",
        given=("database/engine-per-request",),
        seed=(SEED_TASK,),
        connections=24,
    ),
    Case(
        "database/missing-index",
        BACKLOG,
        Request("/tasks?status=failed&limit=50"),
        "50 of the 200 failed tasks among 200,000",
        given=("database/engine-per-request",),
        seconds=4,
    ),
    Case(
        "database/async-database",
        SHOP,
        Request("/items"),
        "ten rows of PostgreSQL, which answers at once",
        connections=8,
    ),
    Case(
        "database/async-database",
        SLOW_SHOP,
        Request("/items"),
        "ten rows of PostgreSQL, which takes 20 ms for them",
        connections=8,
    ),
    *(
        Case(
            "ml/batch-inference",
            service,
            load,
            f"{kind}, {together} at a time",
            given=given,
            connections=together,
        )
        for service, load, kind, given in (
            (
                CRYPTO,
                Request("/predict/signal", "POST", SERIES),
                "an async route",
                ("ml/model-cache",),
            ),
            (FLOWERS, Request("/predict?sepal=0.2&petal=0.7", "POST"), "a route in threads", ()),
        )
        for together in (1, 8, 32)
    ),
    Case(
        "queue/redis-task-queue",
        CRYPTO_WITH_QUEUE,
        Request("/backtests", "POST", LONG_SERIES),
        "8 predictions after the answer, by the process that serves or by a worker beside it",
        given=("database/engine-per-request", "ml/model-cache"),
        connections=4,
        seconds=6,
        varies=("id",),
        beside="celery -A app.job_queue worker --concurrency 1",
    ),
)
