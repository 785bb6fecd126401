from __future__ import annotations

import textwrap

import pytest

from mega_optimizer.repository.files import MemoryFiles
from mega_optimizer.repository.scan import scan
from mega_optimizer.repository.service import Repository, Service
from mega_optimizer.repository.services import is_dockerfile, owners

DOCKERFILE = "FROM python:3.12\nCOPY . .\nRUN pip install -r requirements.txt\nCMD python app.py\n"


def scanned(files: dict[str, str]) -> Repository:
    contents = {path: textwrap.dedent(text).encode() for path, text in files.items()}
    return scan(MemoryFiles(contents), "shop")


def services(files: dict[str, str]) -> dict[str, Service]:
    return {service.name: service for service in scanned(files).services}


def only(files: dict[str, str]) -> Service:
    found = services(files)
    assert len(found) == 1, sorted(found)
    return next(iter(found.values()))


def test_a_dockerfile_is_a_service_of_its_folder() -> None:
    service = only(
        {
            "api/Dockerfile": DOCKERFILE,
            "api/requirements.txt": "flask\n",
            "api/app.py": "",
            "api/tests/test_app.py": "",
            "api/vendor/x.py": "",
            "api/a_pb2.py": "",
            "api/migrations/1.py": "",
            "api/docs/conf.py": "",
        }
    )
    assert (service.name, service.root, service.dockerfile) == ("api", "api", "api/Dockerfile")
    assert service.stage is None
    assert service.manifests == ("api/requirements.txt",)
    assert service.modules == ("api/app.py", "api/tests/test_app.py")
    assert [site.application for site in service.launch] == ["app.py"]


def test_a_dockerfile_at_the_root_is_named_after_the_repository() -> None:
    assert only({"Dockerfile": DOCKERFILE, "app.py": ""}).name == "shop"
    assert only({"docker/Dockerfile": DOCKERFILE, "app.py": ""}).name == "shop"


@pytest.mark.parametrize("base", ["node:20", "golang", "nginx:alpine", "mcr.microsoft.com/x"])
def test_images_without_python_are_no_services(base: str) -> None:
    assert services({"Dockerfile": f"FROM {base}\nCOPY . .\nRUN make\n"}) == {}


def test_an_image_that_copies_python_from_a_builder_is_a_service() -> None:
    service = only(
        {
            "Dockerfile": """\
                FROM python:3.12 AS builder
                WORKDIR /build
                COPY deps.txt ./
                RUN pip install -r deps.txt
                FROM gcr.io/distroless/base
                COPY --from=builder /usr/local /usr/local
                COPY src /src
            """,
            "deps.txt": "fastapi\n",
            "src/app.py": "",
            "scripts/x.py": "",
        }
    )
    assert service.manifests == ("deps.txt",)
    assert service.modules == ("src/app.py",)


def test_compose_gives_context_target_name_and_launch() -> None:
    service = only(
        {
            "compose.yaml": """\
                services:
                  db: {image: postgres}
                  web:
                    build: {context: ., dockerfile: docker/Dockerfile, target: prod}
                    image: me/shop-web:1
                    command: uvicorn app:app
            """,
            "docker/Dockerfile": """\
                FROM python:3.12 AS prod
                COPY app.py .
                FROM prod AS dev-envs
                RUN apt-get install git
            """,
            "app.py": "",
            "k8s/web.yaml": """\
                apiVersion: apps/v1
                kind: Deployment
                metadata: {name: web}
                spec:
                  replicas: 2
                  template: {spec: {containers: [{name: c, image: "r.example.org/me/shop-web:2"}]}}
            """,
        }
    )
    assert (service.name, service.root, service.stage) == ("web", "", "prod")
    assert [(each.kind, each.name, each.replicas) for each in service.deployments] == [
        ("compose", "web", None),
        ("kubernetes", "web", 2),
    ]
    (site,) = service.launch
    assert (site.source, site.server, str(site.place)) == ("compose", "uvicorn", "compose.yaml:6")
    assert site.words[1].text == "app:app"


def test_a_target_for_developers_does_not_ship() -> None:
    service = only(
        {
            "compose.yaml": "services: {vote: {build: {context: vote, target: dev}}}",
            "vote/Dockerfile": "FROM python AS dev\nFROM python AS final\nCMD gunicorn app:app\n",
            "vote/app.py": "",
        }
    )
    assert service.stage is None
    assert [site.server for site in service.launch] == ["gunicorn"]


def test_production_compose_files_decide_over_those_for_developers() -> None:
    service = only(
        {
            "docker-compose.dev.yml": "services: {web: {build: {context: ., target: base}}}",
            "docker-compose.prod.yml": "services: {web: {build: {context: ., target: ship}}}",
            "Dockerfile": "FROM python AS base\nFROM base AS ship\nFROM base AS x\n",
            "app.py": "",
        }
    )
    assert service.stage == "ship"


def test_one_dockerfile_with_two_targets_is_two_services() -> None:
    found = services(
        {
            "compose.yaml": """\
                services:
                  api: {build: {context: ., target: api}}
                  job: {build: {context: ., target: job}}
            """,
            "Dockerfile": "FROM python AS api\nFROM python AS job\nFROM python\n",
            "app.py": "",
        }
    )
    assert {name: service.stage for name, service in found.items()} == {"api": "api", "job": "job"}


def test_services_of_one_image_are_one_service_with_all_its_launches() -> None:
    service = only(
        {
            "compose.yaml": """\
                services:
                  worker: {build: ., command: celery -A tasks worker}
                  web: {build: ., command: gunicorn app:app, ports: ["80:80"]}
            """,
            "Dockerfile": "FROM python\nCOPY . .\n",
            "app.py": "",
        }
    )
    assert service.name == "web"
    assert [site.server for site in service.launch] == ["celery", "gunicorn"]


def test_a_command_is_appended_to_an_entrypoint_that_is_a_server() -> None:
    service = only(
        {
            "compose.yaml": "services: {web: {build: ., command: -A tasks worker}}",
            "Dockerfile": 'FROM python\nCOPY . .\nENTRYPOINT ["celery"]\nCMD ["flower"]\n',
            "app.py": "",
        }
    )
    composed = [site for site in service.launch if site.source == "compose"]
    assert [(site.server, site.application) for site in composed] == [("celery", "tasks")]


def test_names_that_occur_twice_are_prefixed_with_their_folders() -> None:
    files = {}
    for folder in ("django", "flask"):
        files[f"{folder}/compose.yaml"] = "services: {web: {build: app}}"
        files[f"{folder}/app/Dockerfile"] = DOCKERFILE
        files[f"{folder}/app/app.py"] = ""
    assert sorted(services(files)) == ["django-web", "flask-web"]


def test_several_dockerfiles_of_one_folder_are_told_apart() -> None:
    files = dict.fromkeys(("Dockerfile", "Dockerfile.gpu", "auth.Dockerfile"), DOCKERFILE)
    assert sorted(services({**files, "app.py": ""})) == ["shop", "shop-auth", "shop-gpu"]


def test_the_context_is_the_folder_where_the_copied_files_are() -> None:
    copies = "FROM python\nCOPY services/api/requirements.txt common/ ./\n"
    files = {
        "services/api/Dockerfile": copies,
        "services/api/requirements.txt": "flask\n",
        "services/api/app.py": "",
        "common/x.py": "",
    }
    service = only(files)
    assert (service.name, service.root) == ("api", "")
    assert service.modules == ("common/x.py",)
    files["services/api/Dockerfile"] = "FROM python\nCOPY requirements.txt app.py ./\n"
    assert services(files)["api"].root == "services/api"


def test_what_other_services_are_built_from_is_not_of_the_one_above() -> None:
    found = services(
        {
            "Dockerfile": DOCKERFILE,
            "app.py": "",
            "worker/Dockerfile": DOCKERFILE,
            "worker/app.py": "",
            "client/pyproject.toml": "[project]\nname = 'client'\ndependencies = ['httpx']\n",
            "client/client.py": "",
        }
    )
    assert {name: service.modules for name, service in found.items()} == {
        "shop": ("app.py",),
        "worker": ("worker/app.py",),
        "client": ("client/client.py",),
    }


def test_a_shared_file_has_all_its_owners() -> None:
    repository = scanned(
        {
            "compose.yaml": """\
                services:
                  a: {build: {context: ., dockerfile: a/Dockerfile}}
                  b: {build: {context: ., dockerfile: b/Dockerfile}}
            """,
            "a/Dockerfile": "FROM python\nCOPY a common ./\n",
            "a/a.py": "",
            "b/Dockerfile": "FROM python\nCOPY b common ./\n",
            "b/b.py": "",
            "common/c.py": "",
        }
    )
    owned = {
        path: [service.name for service in owning] for path, owning in owners(repository).items()
    }
    assert owned["common/c.py"] == ["a", "b"]
    assert owned["a/a.py"] == ["a"]
    assert owned["b/Dockerfile"] == ["b"]


@pytest.mark.parametrize(
    ("dockerfile", "manifests"),
    [
        ("COPY . .\nRUN pip install -r requirements.txt", ("requirements.txt",)),
        ("COPY . /app\nWORKDIR /app/sub\nRUN pip install -r deps.txt", ("sub/deps.txt",)),
        ("COPY sub/deps.txt /tmp/d.txt\nRUN pip3 install -r /tmp/d.txt", ("sub/deps.txt",)),
        ("COPY sub/deps.txt /tmp/\nRUN cd /tmp && pip install -rdeps.txt", ("sub/deps.txt",)),
        ("COPY sub/*.txt ./\nRUN python -m pip install --requirement=deps.txt", ("sub/deps.txt",)),
        ("ARG F=requirements.txt\nCOPY . .\nRUN pip install -r $F", ("requirements.txt",)),
        ("COPY . .\nRUN uv pip install --system -r sub/deps.txt", ("sub/deps.txt",)),
        ("WORKDIR /a\nCOPY . .\nRUN uv sync --frozen", ("pyproject.toml",)),
        ("RUN --mount=type=bind,source=sub,target=/s uv pip sync /s/deps.txt", ("sub/deps.txt",)),
        ("WORKDIR /a\nCOPY pyproject.toml .\nRUN poetry install --only main", ("pyproject.toml",)),
        ("COPY . /a\nRUN pip install -e '/a[server]'", ("pyproject.toml",)),
        ("WORKDIR /a\nCOPY . .\nRUN pip install .", ("pyproject.toml",)),
        ("COPY . .\nRUN pip install flask", ("pyproject.toml", "requirements.txt")),
    ],
)
def test_manifests_are_what_the_image_installs(dockerfile: str, manifests: tuple[str, ...]) -> None:
    service = only(
        {
            "Dockerfile": f"FROM python\n{dockerfile}\nCOPY app.py .\n",
            "requirements.txt": "flask\n",
            "requirements-dev.txt": "pytest\n",
            "sub/deps.txt": "flask\n",
            "pyproject.toml": "[project]\nname = 'a'\ndependencies = ['flask']\n",
            "app.py": "",
        }
    )
    assert service.manifests == manifests


def test_a_pyproject_without_dependencies_is_no_manifest() -> None:
    files = {"Dockerfile": "FROM python\nCOPY . .\n", "app.py": "", "requirements.txt": "flask\n"}
    service = only({**files, "pyproject.toml": "[tool.ruff]\nline-length = 100\n"})
    assert service.manifests == ("requirements.txt",)


def test_an_image_without_code_of_the_repository_has_no_manifest() -> None:
    found = services(
        {
            "compose.yaml": "services: {m: {build: {context: ., dockerfile: m/Dockerfile}}}",
            "m/Dockerfile": "FROM python\nRUN pip install mlflow\nCMD mlflow server\n",
            "requirements.txt": "torch\n",
        }
    )
    assert (found["m"].manifests, found["m"].modules) == ((), ())


def test_an_image_that_copies_nothing_has_the_code_beside_its_dockerfile() -> None:
    installed = "FROM python\nRUN pip install flower\nCMD celery flower\n"
    service = only({"Dockerfile": installed, "flower/app.py": "", "tests/test_app.py": ""})
    assert service.modules == ("flower/app.py", "tests/test_app.py")
    assert only({"a/Dockerfile": installed, "a/x.py": "", "b.py": ""}).modules == ("a/x.py",)


def test_python_without_a_dockerfile_is_a_service_of_its_nearest_manifest() -> None:
    found = services(
        {
            "a/requirements.txt": "flask\n",
            "a/pkg/app.py": "import uvicorn\nuvicorn.run('pkg.app:app')\n",
            "a/tests/test_a.py": "",
            "a/Procfile": "web: gunicorn pkg.app:app\n",
            "b/pyproject.toml": "[project]\nname = 'b'\ndependencies = ['flask']\n",
            "b/tests/test_b.py": "",
            "c/script.py": "",
        }
    )
    (service,) = found.values()
    assert (service.name, service.root, service.dockerfile) == ("a", "a", None)
    assert service.manifests == ("a/requirements.txt",)
    assert service.modules == ("a/pkg/app.py", "a/tests/test_a.py")
    assert [site.source for site in service.launch] == ["procfile", "python"]


def test_python_alone_is_one_service() -> None:
    service = only({"app.py": ""})
    assert (service.name, service.root, service.manifests) == ("shop", "", ())


def test_nothing_is_nothing() -> None:
    assert scanned({}) == Repository((), ())
    assert scanned({"README.md": "x"}).services == ()


def test_broken_files_are_problems_and_the_others_are_linked() -> None:
    repository = scanned(
        {
            "broken/Dockerfile": "FORM python\n",
            "compose.yaml": "services: [\n",
            "chart/Chart.yaml": "name: x\n",
            "chart/templates/d.yaml": "apiVersion: v1\nkind: Deployment\nname: {{ .x }}\n",
            "ok/Dockerfile": DOCKERFILE,
            "ok/app.py": "",
        }
    )
    assert [service.name for service in repository.services] == ["ok"]
    assert [(problem.path, problem.code) for problem in repository.problems] == [
        ("broken/Dockerfile", "syntax-error"),
        ("chart/Chart.yaml", "templated"),
        ("compose.yaml", "yaml-syntax"),
    ]


def test_unreadable_files_do_not_stop_the_scan() -> None:
    contents = {"ok/Dockerfile": DOCKERFILE.encode(), "ok/app.py": b""}
    unreadable = {
        "Dockerfile": "symlink",
        "compose.yaml": "unreadable",
        "ok/requirements.txt": "too-large",
        "ok/x.py": "not-a-file",
    }
    repository = scan(MemoryFiles(contents, unreadable), "shop")
    assert [service.name for service in repository.services] == ["ok"]


def test_images_are_not_matched_by_parts_of_their_names() -> None:
    manifest = (
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {0}}}\nspec: {{containers: [{{image: {1}}}]}}"
    )
    files = {
        "api/Dockerfile": DOCKERFILE,
        "api/app.py": "",
        "k/1.yaml": manifest.format("x", "registry.example.org:5000/team/api:1"),
        "k/2.yaml": manifest.format("api", "team/shop_api@sha256:0"),
        "k/3.yaml": manifest.format("frontend", "team/frontend-api"),
        "k/4.yaml": manifest.format("api-fix", "team/api-fix"),
        "k/5.yaml": manifest.format("api", "redis"),
    }
    deployed = [deployment.place.path for deployment in only(files).deployments]
    assert deployed == ["k/1.yaml", "k/2.yaml"]


def test_dockerfiles_are_known_by_name() -> None:
    for path in (
        *("Dockerfile", "a/Dockerfile.prod", "api.Dockerfile", "CPUDockerfile", "x.dockerfile"),
        *("Containerfile", ".docker/Dockerfile", "Dockerfile-worker", "testing-app/Dockerfile"),
    ):
        assert is_dockerfile(path), path
    for path in (
        *("Dockerfile.dockerignore", "Dockerfile.j2", "Dockerfile.md", "dockerfile.py"),
        *(".devcontainer/Dockerfile", "vendor/Dockerfile", "tests/Dockerfile", ".dockerignore"),
        *("src/dockerfiles", "undocker", ".github/docker/Dockerfile"),
    ):
        assert not is_dockerfile(path), path
