"""The wheel holds what the checkout holds, as plain files under the one name `guided`."""

import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import guided

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    pytest.importorskip("hatchling")
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(out)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return zipfile.ZipFile(next(out.glob("*.whl")))


def metadata(wheel: zipfile.ZipFile, name: str) -> str:
    return wheel.read(f"guided-{guided.__version__}.dist-info/{name}").decode()


def test_only_top_level_name(wheel: zipfile.ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist()}
    assert tops == {"guided", f"guided-{guided.__version__}.dist-info"}


def test_same_files_as_the_checkout(wheel: zipfile.ZipFile) -> None:
    files = {"guided": "guided", "guided/rewards": "rewards", "guided/samplers": "samplers"}
    expected = {
        f"{name}/{path.relative_to(ROOT / folder).as_posix()}"
        for name, folder in files.items()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert {name for name in wheel.namelist() if name.startswith("guided/")} == expected


@pytest.mark.parametrize(
    "name",
    ["py.typed", "rewards/molecules/properties.py", "samplers/svdd.py"]
    + [f"checkpoints/molecules/{name}" for name in ("model.safetensors", "config.json", "README.md")],
)
def test_holds(wheel: zipfile.ZipFile, name: str) -> None:
    assert f"guided/{name}" in wheel.namelist()


def test_no_links(wheel: zipfile.ZipFile) -> None:
    assert not [info.filename for info in wheel.infolist() if stat.S_ISLNK(info.external_attr >> 16)]


def test_metadata(wheel: zipfile.ZipFile) -> None:
    assert "guided = guided.cli:main" in metadata(wheel, "entry_points.txt")
    assert "Requires-Python: >=3.10" in metadata(wheel, "METADATA")
    assert "Apache License" in metadata(wheel, "licenses/LICENSE")


def test_imports_away_from_the_checkout(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path / "site")
    code = "import guided, guided.rewards, guided.samplers as s; print(guided.__file__, s.__name__, s.SVDD.__module__)"
    out = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        check=True,
    )
    file, name, module = out.stdout.split()
    assert Path(file) == tmp_path / "site" / "guided" / "__init__.py"
    assert (name, module) == ("guided.samplers", "guided.samplers.svdd")
