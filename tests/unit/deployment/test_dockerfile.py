"""The image is what the Dockerfile's lines say; Docker itself is not needed to read them."""

import fnmatch
import re

from tests.unit.deployment.deployed import ROOT, services

Stage = list[tuple[str, str]]


def stages() -> dict[str, Stage]:
    """Return each stage's instructions, in order, with its FROM first."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.M)
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    found: dict[str, Stage] = {}
    for line in lines:
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            found[rest.partition(" AS ")[2]] = stage = []
        stage.append((word, rest))
    return found


def said(stage: str, word: str) -> list[str]:
    return [rest for name, rest in stages()[stage] if name == word]


def copied() -> list[list[str]]:
    copies = [rest for name in stages() for rest in said(name, "COPY")]
    return [[part for part in copy.split() if not part.startswith("--")][:-1] for copy in copies]


def ignored(path: str) -> bool:
    """Tell what .dockerignore does with a path: the last rule that fits decides."""
    rules = (ROOT / ".dockerignore").read_text().splitlines()
    out = False
    for rule in (rule for rule in rules if rule and not rule.startswith("#")):
        pattern = rule.lstrip("!").removeprefix("**/")
        parents = ["/".join(path.split("/")[: n + 1]) for n in range(path.count("/") + 1)]
        if any(fnmatch.fnmatch(one, pattern) for one in [*parents, path.rpartition("/")[2]]):
            out = not rule.startswith("!")
    return out


def test_all_stages_grow_on_one_pinned_slim_python() -> None:
    bases = {name: stage[0][1].partition(" ")[0] for name, stage in stages().items()}
    assert re.fullmatch(r"python:3\.12(\.\d+)?-slim-\w+", bases.pop("base"))
    assert bases == {"airflow": "base", "kubernetes": "base"}


def test_compose_builds_the_last_stage() -> None:
    assert services()["worker"]["build"]["target"] == list(stages())[-1] == "airflow"


def test_what_runs_is_not_root() -> None:
    for name in ("airflow", "kubernetes"):
        assert stages()[name][-1] == ("USER", "50000:0")


def test_packages_come_from_locks_with_hashes_and_as_wheels() -> None:
    installs = [run for name in stages() for run in said(name, "RUN") if "pip install" in run]
    assert len(installs) == 2
    for run in installs:
        assert "--require-hashes" in run
        assert "--only-binary :all:" in run
        assert re.search(r"-r requirements[\w-]*\.lock$", run)


def test_the_layer_of_packages_depends_on_nothing_but_the_lock() -> None:
    base = [word for word, _ in stages()["base"]]
    lock = stages()["base"].index(("COPY", "requirements.lock ./"))
    assert base[lock + 1] == "RUN"
    assert "COPY" not in base[:lock]


def test_what_is_copied_exists_and_is_sent_to_the_builder() -> None:
    sources = {source for copy in copied() for source in copy}
    assert {"include", "plugins", "dags", "compose", "requirements.lock"} <= sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert not ignored(source), source


def test_secrets_tests_and_history_are_not_sent_to_the_builder() -> None:
    for path in (".env", ".env.example", ".git/config", ".venv/bin/python", "tests/conftest.py"):
        assert ignored(path), path
    assert ignored("include/imagenet_etl/__pycache__/cli.cpython-312.pyc")
    assert not ignored("include/imagenet_etl/cli.py")


def test_the_library_is_on_the_path() -> None:
    environment = " ".join(said("base", "ENV"))
    assert "PYTHONPATH=/opt/airflow/include" in environment
    assert "AIRFLOW_HOME=/opt/airflow " in environment


def test_folders_that_volumes_cover_belong_to_the_user() -> None:
    made = next(run for run in said("base", "RUN") if "install -d" in run)
    own = set(re.findall(r"(?<=\s)/[\w/]+", made.partition("install -d")[2]))
    for name in ("airflow-init", "api-server", "worker"):
        assert {volume.rpartition(":")[2] for volume in services()[name]["volumes"]} <= own


def test_signals_reach_what_runs() -> None:
    (entry,) = said("base", "ENTRYPOINT")
    assert entry == '["/usr/bin/tini", "--", "/entrypoint"]'
    assert 'exec "$@"' in (ROOT / "compose" / "entrypoint").read_text()


def test_the_locks_agree() -> None:
    versions = []
    for lock in ("requirements.lock", "docs/kubernetes/requirements.lock"):
        versions.append(dict(re.findall(r"^([\w.-]+)==([^ ;]+)", (ROOT / lock).read_text(), re.M)))
    first, second = versions
    assert first.items() <= second.items()
    assert {"apache-airflow-providers-cncf-kubernetes", "apache-airflow-providers-fab"} <= (
        second.keys() - first.keys()
    )
