"""The rules of the house: what ships, what may be imported where, what must never be committed."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FOLDERS = ("flowprofile", "pipelines", "stores", "tests", "benchmarks", "docs", ".ci")
MEGABYTE = 1_000_000


def files() -> Iterator[Path]:
    """What a clone holds: the files of the project's folders, and those beside them."""
    yield from (path for path in ROOT.iterdir() if path.is_file() and path.name != ".coverage")
    for folder in FOLDERS:
        inside = (path for path in (ROOT / folder).rglob("*") if path.is_file())
        yield from (path for path in inside if not {"__pycache__", ".benchmarks"} & set(path.parts))


def modules() -> list[Path]:
    return sorted((ROOT / "flowprofile").rglob("*.py"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return zipfile.ZipFile(next(folder.glob("*.whl")))


def test_nothing_but_the_package_lies_at_the_wheels_top_level(wheel):
    version = PROJECT["project"]["version"]
    tops = {name.partition("/")[0] for name in wheel.namelist()}
    assert tops == {"flowprofile", f"flowprofile-{version}.dist-info"}


def test_the_wheel_ships_definitions_weights_types_and_licence(wheel):
    names = set(wheel.namelist())
    for kind in ("pipelines", "stores"):
        ours = sorted((ROOT / kind).glob("*.toml"))
        assert ours
        for path in ours:
            assert wheel.read(f"flowprofile/shipped/{kind}/{path.name}") == path.read_bytes()
    weights = {path.relative_to(ROOT).as_posix() for path in (ROOT / "flowprofile").rglob("*.safetensors")}
    assert weights
    assert weights <= names
    assert "flowprofile/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]


def test_an_installed_wheel_finds_its_own_definitions(wheel, tmp_path):
    wheel.extractall(tmp_path / "site")
    program = "from flowprofile import definitions as d; print(d.shipped('pipelines'), *d.names('pipelines'))"
    where, *names = run(
        program, cwd=tmp_path, PYTHONPATH=str(tmp_path / "site"), FLOWPROFILE_PATH=""
    ).stdout.split()
    assert Path(where) == tmp_path / "site" / "flowprofile" / "shipped" / "pipelines"
    folder = ROOT / "pipelines"
    assert names == sorted(path.relative_to(folder).as_posix()[:-5] for path in folder.rglob("*.toml"))
    assert "thesis/fig-5.6" in names


def run(
    program: str, *options: str, cwd: Path = ROOT, **environment: str
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *options, "-c", program]
    return subprocess.run(
        command, cwd=cwd, env=os.environ | environment, capture_output=True, text=True, check=True
    )


def imported(program: str) -> set[str]:
    """Top-level packages that a program imports, as ``python -X importtime`` tells them."""
    lines = run(program, "-X", "importtime").stderr.splitlines()
    return {
        line.rpartition("|")[2].strip().partition(".")[0] for line in lines if line.startswith("import time:")
    }


@pytest.mark.parametrize(
    "program",
    [
        "import flowprofile as fp; fp.open; fp.Case; fp.Pipeline",
        "import flowprofile.opening",
        "import flowprofile.figures",
        "import flowprofile.cli",
        "from flowprofile.models import zoo; zoo.NAMES",
        "import flowprofile.assembly",
    ],
)
def test_reading_a_profile_imports_no_torch(program):
    packages = imported(program)
    assert "flowprofile" in packages
    assert not packages & {"torch", "matplotlib"}


def test_an_import_of_torch_would_be_seen():
    assert "torch" in imported("import flowprofile.kernels.ssim")


def contracts() -> dict[str, dict]:
    return {contract["id"]: contract for contract in PROJECT["tool"]["importlinter"]["contracts"]}


def test_the_import_contracts_stand():
    layers, reading = contracts()["layers"], contracts()["reading"]
    assert layers["exhaustive"] is True
    assert layers["containers"] == ["flowprofile"]
    assert layers["layers"][-1] == "errors"
    assert reading["forbidden_modules"] == ["torch"]
    assert "allow_indirect_imports" not in reading
    assert not any("ignore_imports" in contract for contract in contracts().values())


def test_an_import_upwards_and_a_hidden_torch_are_refused(tmp_path):
    shutil.copytree(
        ROOT / "flowprofile", tmp_path / "flowprofile", ignore=shutil.ignore_patterns("*.safetensors")
    )
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    path = tmp_path / "flowprofile" / "store" / "__init__.py"
    path.write_text("def hidden() -> None:\n    import torch\n\n    from flowprofile import stages\n")
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert re.search(r"Imports go down only\s*BROKEN", done.stdout)
    assert re.search(r"not even indirectly\s*BROKEN", done.stdout)


def test_nothing_large_is_committed():
    large = [f"{path}: {path.stat().st_size}" for path in files() if path.stat().st_size > 5 * MEGABYTE]
    assert not large
    weights = [path.stat().st_size for path in files() if path.suffix == ".safetensors"]
    assert sum(weights) < 10 * MEGABYTE


def test_no_file_names_a_folder_of_one_machine():
    pattern = re.compile(r"(?<![\w.<>-])/(?:work|root|home|Users)/")
    found = []
    for path in files():
        content = path.read_bytes()
        if b"\0" not in content:
            lines = enumerate(content.decode("utf-8").splitlines(), start=1)
            found += [
                f"{path.relative_to(ROOT)}:{number}: {line}" for number, line in lines if pattern.search(line)
            ]
    assert not found


def test_every_module_says_why_it_exists_and_stays_a_page_or_so():
    for path in modules():
        text = path.read_text(encoding="utf-8")
        assert not text.strip() or ast.get_docstring(ast.parse(text)), f"{path} has no docstring"
        assert len(text.splitlines()) <= 450, f"{path} has grown: look for the second idea in it"


def test_the_set_up_pins_everything_it_installs():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    versions = {normal(pin.name): next(iter(pin.specifier)).version for pin in pins}
    assert all(str(pin.specifier).startswith("==") and "+" not in str(pin.specifier) for pin in pins)
    extras = PROJECT["project"]["optional-dependencies"].values()
    wanted = [*PROJECT["project"]["dependencies"], *PROJECT["build-system"]["requires"], *chain(*extras)]
    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(versions[normal(requirement.name)]), (
            f"constraints.txt: {requirement}"
        )


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_no_page_has_a_gap_or_a_link_to_nowhere():
    for path in (path for path in files() if path.suffix == ".md"):
        text = path.read_text(encoding="utf-8")
        assert "\N{MATHEMATICAL LEFT ANGLE BRACKET}fill" not in text, f"{path} has a gap to fill"
        for target in re.findall(r"\]\((?!https?://|#)([^)#\s]+)", text):
            assert (path.parent / target).exists(), f"{path} points to {target!r}, which does not exist"


def test_ci_runs_the_command_of_the_readme():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "make test" in script.read_text(encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "make demo" in readme
    assert "make test" in readme


def test_a_python_that_is_too_old_is_refused_with_the_remedy(tmp_path):
    """The set-up looks at what a candidate says of itself, since a shim may exist and fail."""
    old = tmp_path / "python3.8"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.8.20" && exit 0\nexit 1\n')
    old.chmod(0o755)
    command = ["make", "-C", str(ROOT), "demo", f"PYTHON={old}", f"VENV={tmp_path / 'venv'}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "needs Python >= 3.11. Found: Python 3.8.20" in done.stdout
    assert "To mend it: install Python 3.11 or newer, or name one: make PYTHON=" in done.stdout
    assert not (tmp_path / "venv").exists()
