"""A console script ends as any Python program does, except that native libraries are not destroyed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

_SECONDS = 120
#: What is printed waits for the end to be written, as it does unless somebody asks for more.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
#: What libraries leave to be run when the process ends: `__cxa_atexit` is how C++ destroys what is static.
ABORT_WHEN_DESTROYED = """
import ctypes
libc = ctypes.CDLL(None)
libc.__cxa_atexit(ctypes.cast(libc.abort, ctypes.c_void_p), None, None)
"""
MAINS = {
    "nothing": "return None",
    "a number": "return 4",
    "zero": "return 0",
    "an exit": "sys.exit(3)",
    "an exit without code": "sys.exit()",
    "a code above a byte": "sys.exit(259)",
    "a code below zero": "sys.exit(-1)",
    "a text": "sys.exit('what went wrong')",
    "a traceback": "raise ValueError('a bug')",
    "a closed output": "os.close(1); print('for nobody'); return 0",
    "a full output": "os.dup2(os.open('/dev/full', os.O_WRONLY), 1); print('for nobody'); return 0",
    "a full output after an error": "os.dup2(os.open('/dev/full', os.O_WRONLY), 1); print('for nobody'); sys.exit(2)",
    "full outputs": "os.dup2(os.open('/dev/full', os.O_WRONLY), 1); os.dup2(1, 2); print('for nobody'); sys.exit('x')",
    "no output": "sys.stdout.close(); return 5",
    "no stream": "sys.stdout = sys.stderr = None; sys.exit(3)",
    "a failing function": "atexit.register(lambda: 1 / 0); return 6",
    "a thread": "threading.Timer(0.3, lambda: print('from a thread')).start(); return 7",
    "a failing thread": "threading.Thread(target=lambda: 1 / 0).start(); return 0",
    "a waiting daemon": "threading.Thread(target=threading.Event().wait, daemon=True).start(); return 8",
    "a pool": "concurrent.futures.ThreadPoolExecutor().submit(lambda: (time.sleep(0.3), print('pooled'))); return 9",
    "a folder": "main.folder = tempfile.TemporaryDirectory(dir='.'); return 0",
    "a process": "multiprocessing.Process(target=print, args=('from a process',)).start(); return 0",
}


def run(body: str, ending: str, folder: Path) -> subprocess.CompletedProcess[str]:
    code = f"""
import atexit, concurrent.futures, multiprocessing, os, sys, tempfile, threading, time
from adclick.serving.script import run_script

def main():
    atexit.register(print, "the end")
    print("printed", end="")
    print("told", end="", file=sys.stderr)
    {body}

if __name__ == "__main__":
    {ending}
"""
    folder.mkdir()
    (folder / "program.py").write_text(code)
    environment = {**ENVIRONMENT, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    return subprocess.run(
        [sys.executable, "program.py"],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
        timeout=_SECONDS,
        check=False,
    )


@pytest.mark.parametrize("body", MAINS.values(), ids=MAINS.keys())
def test_the_end_is_the_interpreters(body: str, tmp_path: Path) -> None:
    usual = run(body, "sys.exit(main())", tmp_path / "usual")
    ours = run(body, "run_script(main)", tmp_path / "ours")
    assert (ours.returncode, ours.stdout) == (usual.returncode, usual.stdout)
    # Tracebacks name the line that they went through.
    assert bool(ours.stderr) == bool(usual.stderr)
    assert ("what went wrong" in ours.stderr) == ("what went wrong" in usual.stderr)
    assert ours.stderr.count("Error: ") == usual.stderr.count("Error: ")
    assert [file.name for file in (tmp_path / "ours").iterdir()] == ["program.py"]


def test_what_reads_may_have_gone(tmp_path: Path) -> None:
    codes = []
    for ending in ("sys.exit(main())", "run_script(main)"):
        reader, writer = os.pipe()
        os.close(reader)
        main = "main = lambda: print('for nobody')"
        program = f"import sys; from adclick.serving.script import run_script; {main}; {ending}"
        done = subprocess.run(
            [sys.executable, "-c", program], stdout=writer, stderr=subprocess.PIPE, env=ENVIRONMENT, timeout=_SECONDS
        )
        os.close(writer)
        codes.append(done.returncode)
        assert b"Broken pipe" in done.stderr
    assert codes == [120, 120]


@pytest.mark.parametrize(
    ("script", "arguments", "code", "printed"),
    [
        ("adclick", ["--help"], 0, "Exit codes"),
        ("adclick", ["status", "--config", "no/such.yaml"], 2, ""),
        ("adclick-gateway", ["--help"], 0, "--gateway-config"),
        ("adclick-gateway", [], 2, ""),
        ("tensorflow_model_server", ["--version"], 0, "TensorFlow Library"),
        ("tensorflow_model_server", [], 255, "both"),
    ],
)
def test_no_script_is_aborted_by_what_libraries_destroy(
    script: str, arguments: list[str], code: int, printed: str, tmp_path: Path
) -> None:
    path = Path(sys.executable).with_name(script)
    run_path = "import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    at_exit = f"import atexit; atexit.register(open({str(tmp_path / 'ran')!r}, 'w').close)"
    command = [sys.executable, "-c", f"{ABORT_WHEN_DESTROYED}\n{at_exit}\n{run_path}", str(path), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert printed.lower() in done.stdout.lower()
    assert (tmp_path / "ran").exists()


def test_the_abort_is_real() -> None:
    done = subprocess.run([sys.executable, "-c", ABORT_WHEN_DESTROYED], timeout=_SECONDS)
    assert done.returncode == -signal.SIGABRT
