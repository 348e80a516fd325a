"""The import of the package: it is light, and it settles how OpenMP threads wait before torch can be imported."""

import os
import subprocess
import sys

import pytest

WAITING = ("OMP_WAIT_POLICY", "KMP_BLOCKTIME", "GOMP_SPINCOUNT", "KMP_LIBRARY")
SHOWN = f"import os, sys; print({{name: os.environ[name] for name in {WAITING} if name in os.environ}})"
PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0", "GOMP_SPINCOUNT": "1000"}


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The outcome of `code` in a new process with no settings of OpenMP but those given."""
    inherited = {name: value for name, value in os.environ.items() if name not in WAITING}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=inherited | environment, capture_output=True, text=True, check=True)


@pytest.mark.parametrize("module", ["audit", "audit.pytest_plugin", "audit.cli", "audit.settings.options"])
def test_threads_wait_passively_after_any_import_of_the_package_which_brings_no_torch(module: str) -> None:
    assert python(f"import {module}; {SHOWN}; assert 'torch' not in sys.modules").stdout.strip() == str(PASSIVE)


@pytest.mark.parametrize(
    "wish",
    [
        {"OMP_WAIT_POLICY": "ACTIVE"},
        {"OMP_WAIT_POLICY": ""},
        {"GOMP_SPINCOUNT": "5"},
        {"KMP_BLOCKTIME": "200"},
        {"KMP_LIBRARY": "turnaround"},
    ],
)
def test_what_the_user_has_set_stays_and_nothing_is_added(wish: dict[str, str]) -> None:
    assert python(f"import audit; {SHOWN}", **wish).stdout.strip() == str(wish)


def test_the_threads_of_a_process_that_this_one_starts_wait_passively_as_well() -> None:
    started = f"import audit, subprocess, sys; subprocess.run([sys.executable, '-c', {SHOWN!r}], check=True)"
    assert python(started).stdout.strip() == str(PASSIVE)


@pytest.mark.skipif(sys.platform != "linux", reason="the wheels of torch bring libgomp on Linux only")
def test_the_openmp_library_of_torch_reads_the_setting() -> None:
    shown = python("import audit, torch", OMP_DISPLAY_ENV="VERBOSE").stderr
    assert "GOMP_SPINCOUNT = '1000'" in shown or "KMP_BLOCKTIME=0" in shown.replace(" ", "").replace("'", "")
