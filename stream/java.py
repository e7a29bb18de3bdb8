"""Java programs that run beside the stream on this machine: Java itself, and jars of Maven Central by their SHA-256."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from adclick.schema.errors import ConfigError

_LEAST_JAVA = 17
_DOWNLOAD_SECONDS = 600
_HOW_TO_GET = "On Debian and Ubuntu: apt-get install openjdk-17-jre-headless maven"


def cache_folder() -> Path:
    """Where what is fetched is kept for this user."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "adclick"


def java_program(program: str = "Apache Kafka") -> str:
    """The path of Java.

    Args:
        program: What runs on it, as an error names it.

    Raises:
        ConfigError: There is none, or it is too old.
    """
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=str(Path(home) / "bin")) if home else None
    java = java or shutil.which("java")
    if java is None:
        raise ConfigError(f"Java, which {program} runs on, is not installed", _HOW_TO_GET)
    said = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=60).stderr
    with contextlib.suppress(IndexError, ValueError):
        version = said.split('"')[1]
        if int(version.split(".")[0].split("-")[0]) < _LEAST_JAVA:
            raise ConfigError(f"{java} is Java {version}; {program} needs {_LEAST_JAVA} or newer", _HOW_TO_GET)
    return java


@dataclass(frozen=True)
class PinnedJars:
    """Jars of Maven Central that are kept once for each user, in a folder of their own.

    Attributes:
        title: What they are, as errors name it.
        folder: The name of the folder.
        size: How much is fetched, in words.
        dependencies: What Maven is asked for, as group, artifact and version.
        sha256: The SHA-256 of each jar by its name, of all that Maven gets with what they need.
        pinned_in: The file that says so.
    """

    title: str
    folder: str
    size: str
    dependencies: Sequence[tuple[str, str, str]]
    sha256: Mapping[str, str]
    pinned_in: str

    def fetched(self, tell: Callable[[str], None] = lambda _: None) -> Path:
        """The folder of the jars, fetched by Maven the first time and checked each time that they are fetched.

        Args:
            tell: Is told before something takes long.

        Raises:
            ConfigError: Maven is missing, or it cannot fetch them, or they are not those that they should be.
        """
        folder = cache_folder() / self.folder
        if folder.is_dir():
            # It appears whole; where it is part of an image nothing can be written beside it.
            return folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        with (folder.with_name(f"{folder.name}.lock")).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.is_dir():
                maven = shutil.which("mvn")
                if maven is None:
                    raise ConfigError(f"Maven, which fetches {self.title}'s jars, is not installed (mvn)", _HOW_TO_GET)
                tell(f"Fetching {self.title} ({self.size}, once) …")
                work = folder.with_name(f"{folder.name}.partial")
                shutil.rmtree(work, ignore_errors=True)
                work.mkdir()
                self._fetch(maven, work)
                self._check(work)
                (work / "pom.xml").unlink()
                work.rename(folder)
        return folder

    def _fetch(self, maven: str, folder: Path) -> None:
        dependencies = "".join(
            f"<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version></dependency>"
            for group, artifact, version in self.dependencies
        )
        (folder / "pom.xml").write_text(
            '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
            "<groupId>adclick</groupId><artifactId>pinned-jars</artifactId><version>1</version>"
            f"<dependencies>{dependencies}</dependencies></project>"
        )
        command = [maven, "--quiet", "--batch-mode", "--file", str(folder / "pom.xml"), "dependency:copy-dependencies"]
        try:
            done = subprocess.run(
                [*command, "-DincludeScope=runtime", f"-DoutputDirectory={folder}"],
                capture_output=True,
                text=True,
                timeout=_DOWNLOAD_SECONDS,
            )
        except subprocess.TimeoutExpired:
            raise ConfigError(
                f"Maven did not fetch {self.title} within {_DOWNLOAD_SECONDS} s",
                "Is Maven Central reachable from here?",
            ) from None
        if done.returncode:
            raise ConfigError(
                f"Maven cannot fetch {self.title}: {(done.stdout + done.stderr).strip()[-600:]}",
                "Is Maven Central, or the mirror that ~/.m2/settings.xml names, reachable from here?",
            )

    def _check(self, folder: Path) -> None:
        found = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.glob("*.jar")}
        wrong = sorted(name for name in self.sha256.keys() | found.keys() if self.sha256.get(name) != found.get(name))
        if wrong:
            raise ConfigError(
                f"what Maven fetched is not {self.title} as it should be: {', '.join(wrong)}",
                f"A jar's SHA-256 is not the one pinned in {self.pinned_in}. Does a mirror alter it?",
            )
