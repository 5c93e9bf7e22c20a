"""A reader who types what a page says, in a folder of their own, and looks at what comes back."""

import contextlib
import importlib.util
import io
import json
import os
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from oneglance_server.access.policy import read_policy
from tests.documents.blocks import ROOT, Block, Command, commands_of
from tests.documents.pages import CHANGED, STOP, Page
from tests.running import PACKAGES, free_port
from tests.waiting import PATIENCE_SECONDS

ADDRESSES = (
    *("127.0.0.1:50051", "127.0.0.1:50052", "127.0.0.1:50080", "127.0.0.1:8080"),
    *("127.0.0.1:4318", "127.0.0.1:19530", "9105"),
)
"""Each has a free port on a page, so that pages can run beside each other and beside a server of one's own."""
STAYS = re.compile(r"(?:\w+=\S+ )*oneglance (serve|console)\b")
"""Commands that run on until they are stopped; they say on a line that they are ready."""
NUMBER = re.compile(r"\d+\.\d+")
NEAR = 0.002
"""How far a number may be from the one shown: processors round otherwise."""


class Reader:
    def __init__(self, page: Page, folder: Path, programs: Path | None = None) -> None:
        self.page, self.folder = page, folder
        self.home = folder / "home"
        self.home.mkdir()
        ports = {address: str(free_port()) for address in ADDRESSES}
        self._places = {address: f"{address.rpartition(':')[0]}:{port}".lstrip(":") for address, port in ports.items()}
        server = self._places["127.0.0.1:50051"]
        self._places |= {
            "0.0.0.0:50051": server,
            "faces.example.org:50051": server.replace("127.0.0.1", "localhost"),
            "/run/oneglance/oneglance.sock": str(folder / "oneglance.sock"),
            "/run/oneglance/share.sock": str(folder / "share.sock"),
            "/var/lib/oneglance": str(folder / "var-lib-oneglance"),
        }
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("ONEGLANCE_", "OTEL_", "XDG_"))
        }
        self.environment = {
            **kept,
            "PATH": f"{programs or Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": "" if programs else ":".join(str(ROOT / package) for package in (*PACKAGES, "")),
            "HOME": str(self.home),
            "ONEGLANCE_SERVER": server,
            "ONEGLANCE_LISTEN": server,
        }
        self._exports: list[str] = []
        self._running: dict[str, subprocess.Popen[str]] = {}
        self._seen: Counter[str] = Counter()
        self._names: dict[str, Any] = {"__name__": "page"}
        self._status, self._printed = 0, ""
        self.complaints: list[str] = []

    def read(self, block: Block) -> None:
        """Run the block, or read it; what isn't as the page says goes to ``complaints``."""
        match block.language:
            case "bash" | "console":
                for command in commands_of(block):
                    with self._noting(block):
                        self._type(command)
            case "python":
                with self._noting(block):
                    self._before(block.text.splitlines()[0])
                    self._python(block)
            case "toml":
                with self._noting(block):
                    self._policy(block.text)
            case "json":
                with self._noting(block):
                    json.loads(block.text)
            case "":
                if block.text.strip() not in self._printed and not _same(block.text, self._printed):
                    self.complaints.append(f"{block}: what stands before it prints\n{self._printed}")

    @contextlib.contextmanager
    def _noting(self, block: Block) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.complaints.append(f"{block}: {type(error).__name__}: {error}")

    def stop(self) -> None:
        for process in self._running.values():
            process.terminate()
        for process in self._running.values():
            process.communicate(timeout=PATIENCE_SECONDS)
        self._running.clear()

    def _type(self, command: Command) -> None:
        text = command.text
        if text in self.page.not_run:
            return
        self._before(text)
        line = self._placed(self._told(self.page.instead, text, text))
        self._seen[text] += 1
        if text.startswith("pip install "):
            _extras_exist(text)
        elif text.startswith(("export ", "cd ")):
            self._exports.append(line)
        elif stays := STAYS.match(line):
            self._start(stays[1], line)
        else:
            status, told = self._shell(f"(exit {self._status})\n{line}")
            self._status, self._printed = status, told
            assert status in self.page.statuses.get(text, (0,)), f"`{line}` ended with {status}:\n{told}"
            if command.shown is not None:
                assert _same(command.shown, told), f"`{line}` is shown with\n{command.shown}\nand printed\n{told}"

    def _before(self, key: str) -> None:
        """What has to be there first, and no page tells."""
        for line in self._told(self.page.before, key, "").splitlines():
            if line == STOP:
                self.stop()
                continue
            if stays := STAYS.match(line):
                self._start(stays[1], self._placed(line))
                continue
            status, told = self._shell(self._placed(line))
            assert status == 0, f"before `{key}`: `{line}` ended with {status}:\n{told}"

    def _told(self, table: Mapping[str, str | tuple[str, ...]], key: str, default: str) -> str:
        told = table.get(key, default)
        return told if isinstance(told, str) else told[self._seen[key]]

    def _shell(self, line: str) -> tuple[int, str]:
        """(exit status, what it printed to both outputs)."""
        ran = subprocess.run(
            ["bash", "-c", "\n".join([*self._exports, line])],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE_SECONDS,
        )
        return ran.returncode, ran.stdout

    def _start(self, kind: str, line: str) -> None:
        """Start it; one of its kind that runs already ends before, as it has the port."""
        if kind == "serve" and "--galleries keeper" in line:
            kind = "serve another's galleries"
        elif kind == "serve":
            self.stop()
        log = self.folder / f"{kind}.log"
        with log.open("w") as errors:
            process = subprocess.Popen(
                ["bash", "-c", "\n".join([*self._exports, f"exec env {line}"])],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        assert process.stdout is not None
        if not process.stdout.readline():
            process.communicate(timeout=PATIENCE_SECONDS)
            raise AssertionError(f"`{line}` did not start:\n{log.read_text()}")
        self._running[kind] = process

    def _python(self, block: Block) -> None:
        module = self.page.optional.get(block.text.splitlines()[0])
        if module is not None and importlib.util.find_spec(module) is None:
            return
        code = self._placed(block.text)
        for shown, real in self.page.names.items():
            code = code.replace(shown, real)
        printed = io.StringIO()
        with contextlib.chdir(self.folder), contextlib.redirect_stdout(printed):
            exec(compile("\n" * block.line + code, block.page, "exec"), self._names)
        self._printed = printed.getvalue()

    def _policy(self, table: str) -> None:
        """A table of the policy file, below what the page has put there."""
        path = self.folder / "policy.toml"
        assert read_policy(path, path.read_bytes() + table.encode())

    def _placed(self, text: str) -> str:
        for shown, real in self._places.items():
            text = re.sub(rf"(?<![\w.]){re.escape(shown)}\b", real, text)
        for pattern, changed in CHANGED.items():
            text = re.sub(pattern, changed, text)
        return re.sub(r"--console(?=\s*$| --)", f"--console {self._places['127.0.0.1:8080']}", text)


def _extras_exist(command: str) -> None:
    """Nothing is installed from an index here: that a command could do so is all that is held."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for word in re.findall(r"'([^']+)'|(\S+)", command.removeprefix("pip install ")):
        wanted = Requirement(re.sub(r"^\.(?=\[|$)", "oneglance", "".join(word)))
        assert wanted.name == "oneglance", command
        assert wanted.extras <= set(extras), command


def _same(shown: str, told: str) -> bool:
    """Whether they are equal but for the last digits of numbers."""
    if NUMBER.sub("#", shown.strip()) != NUMBER.sub("#", told.strip()):
        return False
    pairs = zip(NUMBER.findall(shown), NUMBER.findall(told), strict=True)
    return all(abs(float(a) - float(b)) <= NEAR for a, b in pairs)
