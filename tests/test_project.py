"""What the project says of itself is true: its documents, its package, its containers."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from importlib import import_module
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def shown_commands() -> list[str]:
    """Every `swamp …` line in the documents' code blocks, `$ ` before it or not."""
    commands: set[str] = set()
    for document in DOCUMENTS:
        for block in re.findall(r"^```\w*\n(.*?)^```", document.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
            lines = block.replace("\\\n", " ").splitlines()
            commands.update(match[1] for line in lines if (match := re.match(r"(?:\$ )?(swamp [a-z-].*)", line)))
    return sorted(commands)


@pytest.mark.parametrize("line", shown_commands())
def test_every_command_shown_in_a_document_is_one_that_swamp_understands(line: str, monkeypatch: pytest.MonkeyPatch):
    from swamp.cli.commands import COMMANDS

    monkeypatch.chdir(ROOT / "examples")
    words = shlex.split(line, comments=True)[1:]
    path = next((path for length in (3, 2, 1) if (path := tuple(words[:length])) in COMMANDS), None)
    assert path, f"no such command: {line}"
    command = import_module(COMMANDS[path].module).command
    command.make_context(path[-1], words[len(path) :])  # raises on what it cannot parse; runs nothing


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: str(document.relative_to(ROOT)))
def test_every_link_in_a_document_leads_somewhere(document: Path):
    targets = re.findall(r"\]\((?!https?://)([^)#]+)", document.read_text(encoding="utf-8"))
    missing = [target for target in targets if not (document.parent / target).exists()]
    assert not missing


def test_the_readme_opens_with_the_two_commands():
    opening = (ROOT / "README.md").read_text(encoding="utf-8").split("```")[1]
    assert re.findall(r"^make \w+", opening, re.MULTILINE) == ["make demo", "make test"]


def test_bare_make_lists_every_target_with_its_purpose():
    listed = subprocess.run(
        ["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    for target in ("demo", "test", "format"):
        assert re.search(rf"^  {target} +\w", listed, re.MULTILINE)


def test_the_containers_are_built_from_stages_that_exist():
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    stages = set(re.findall(r"^FROM \S+ AS (\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
    services = {"redis-users", "redis", "orchestrator", "worker", "rq-dashboard", "rq-exporter"}
    assert set(compose["services"]) == services
    assert {service["build"]["target"] for service in compose["services"].values() if "build" in service} <= stages


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the sources, so that no build directory appears among them."""
    directory = tmp_path_factory.mktemp("wheel")
    for package in ("swamp", "workers"):
        shutil.copytree(
            ROOT / package, directory / "sources" / package, ignore=shutil.ignore_patterns("__pycache__", "*.pyc")
        )
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, directory / "sources")
    pip(Path(sys.executable), "wheel", "--no-deps", "--wheel-dir", directory, directory / "sources")
    (built,) = directory.glob("*.whl")
    return built


def pip(python: Path, *arguments: str | Path) -> None:
    done = subprocess.run(
        [python, "-m", "pip", "--disable-pip-version-check", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_wheel_holds_both_packages_and_what_is_not_python(wheel: Path):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"swamp/__init__.py", "swamp/py.typed", "workers/__init__.py", "workers/py.typed"} <= names
    here = {str(path.relative_to(ROOT)) for part in ("swamp", "workers") for path in (ROOT / part).rglob("*.py")}
    assert here <= names
    assert {str(path.relative_to(ROOT)) for path in ROOT.glob("swamp/**/*.lua")} <= names
    assert not [name for name in names if name.startswith(("tests/", "examples/"))]


def test_installed_in_an_empty_environment_swamp_works(wheel: Path, tmp_path: Path):
    environment = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    pip(environment / "bin" / "python", "install", "--quiet", "--constraint", ROOT / "constraints.txt", wheel)
    for arguments, shows in (
        (["--version"], "swamp "),
        (["worker", "connect", "--help"], "Usage: swamp worker connect"),
    ):
        done = subprocess.run(
            [environment / "bin" / "swamp", *arguments], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        assert done.stdout.startswith(shows)
