"""Offline runs sync with `wandb sync` unchanged: their files are whole after a clean end, a failure and a kill -9."""

import json
import os
import re
import signal
import struct
import subprocess
import sys
import threading
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from wandb.proto.wandb_internal_pb2 import Record

from tests.cli.forks import ENVIRONMENT
from tests.cli.quire import TINY, kill, only_folder, quire, read, start, wait_for

pytestmark = pytest.mark.full
WORDS = (*TINY, "trainer.max_epochs=3", "trainer.limit_train_batches=6", "callbacks.resume.every_seconds=0")
WANDB = (*WORDS, "logger=wandb")
BLOCK = 2**15


def records(file):
    """Return the records of a .wandb file up to its end or to where it was cut off; every checksum must be right.

    The installed wandb reads the format in its Go program only: a header, then LevelDB's log with zlib's CRC-32.
    """
    data, at, part, found = file.read_bytes(), 7, b"", []
    assert data[:4] == b":W&B"
    while at + 7 <= len(data):
        if BLOCK - at % BLOCK < 7:
            at += BLOCK - at % BLOCK
            continue
        checksum, length, kind = struct.unpack_from("<IHB", data, at)
        body = data[at + 7 : at + 7 + length]
        if len(body) < length:
            break
        assert zlib.crc32(bytes([kind]) + body) == checksum
        part = body if kind in {1, 2} else part + body  # whole, first; middle, last
        if kind in {1, 4}:
            found.append(Record.FromString(part))
        at += 7 + length
    return found


def of_kind(found, kind):
    return [getattr(record, kind) for record in found if record.WhichOneof("record_type") == kind]


def plain(row):
    """Return a row of metrics.jsonl or of W&B's history without W&B's own values."""
    return {key: str(float(value)) for key, value in row.items() if not key.startswith("_")}


def mirrored(found):
    """Return the rows of metrics in W&B's history: those of tables and pictures have nested keys."""
    items = [record.item for record in of_kind(found, "history")]
    flat = [row for row in items if all(len(item.nested_key) < 2 for item in row)]
    return [plain({item.key or item.nested_key[0]: json.loads(item.value_json) for item in row}) for row in flat]


def logged(folder):
    """Return the rows of metrics.jsonl, which a run that ends before its first step does not have."""
    file = folder / "metrics.jsonl"
    return [plain(json.loads(line)) for line in file.read_text().splitlines()] if file.exists() else []


def wandb_files(folder):
    return sorted(folder.glob("wandb/offline-run-*/*.wandb"))


def assert_whole(folder, code):
    """Assert that the newest offline folder holds all of the run: identity, config, every row once, exit code."""
    file, lock = wandb_files(folder)[-1], read(folder / "lock.json")
    found = records(file)
    (run,), (end,) = of_kind(found, "run"), of_kind(found, "exit")
    assert run.run_id == lock["identity"]
    assert run.display_name == folder.name
    config = {item.key: json.loads(item.value_json) for item in run.config.update if item.key != "_wandb"}
    assert config == lock["config"]
    assert mirrored(found) == logged(folder)
    assert end.exit_code == code
    for item in of_kind(found, "files"):
        assert all((file.parent / "files" / each.path).exists() for each in item.files)
    return found


class Server(BaseHTTPRequestHandler):
    """As much of W&B's server as `wandb sync` needs; a line that is sent again replaces the one before."""

    lines: dict
    ends: list

    def _body(self):
        return self.rfile.read(int(self.headers["Content-Length"] or 0))

    def _say(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_PUT(self):
        self._body()
        self._say({})

    def do_POST(self):
        body = self._body()
        if self.path == "/graphql":
            asked = json.loads(body)
            name, given = re.search(r"(?:query|mutation) (\w+)", asked["query"])[1], asked.get("variables") or {}
            self._say(self._answer(name, given))
        elif self.path.endswith("/file_stream"):
            self._take(self.path.split("/")[-2], json.loads(body))
            self._say({})
        else:
            self._say({})

    def _answer(self, name, given):
        project = {"name": given.get("project"), "entity": {"name": "me"}}
        bucket = {"id": "b", "name": given.get("name"), "displayName": given.get("displayName"), "project": project}
        urls = [{"name": file, "uploadUrl": f"{self.server.address}/{file}"} for file in given.get("files", [])]
        known = {
            "UpsertBucket": {"upsertBucket": {"bucket": bucket, "inserted": True}},
            "CreateRunFiles": {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": urls}},
            "ServerFeaturesQuery": {"serverInfo": {"features": []}},
        }
        return {"data": known[name]} if name in known else {"errors": [{"message": f"no {name} here"}]}

    def _take(self, run, sent):
        history = sent.get("files", {}).get("wandb-history.jsonl", {"offset": 0, "content": []})
        for number, line in enumerate(history["content"], history["offset"]):
            self.server.lines.setdefault(run, {})[number] = json.loads(line)
        if sent.get("complete"):
            self.server.ends.append(sent["exitcode"])

    def log_message(self, *args):
        """Stay silent."""


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        server.address, server.lines, server.ends = f"http://127.0.0.1:{server.server_port}", {}, []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def assert_syncs(folder, server, code):
    """Assert that `wandb sync` uploads the run as it is in metrics.jsonl, under its one id."""
    more = {"WANDB_BASE_URL": server.address, "WANDB_API_KEY": "0" * 40, "WANDB_ERROR_REPORTING": "false"}
    command = [sys.executable, "-m", "wandb", "sync", str(folder / "wandb")]
    done = subprocess.run(command, env=ENVIRONMENT | more, capture_output=True, text=True, timeout=600)
    assert "Finished syncing" in done.stderr, done.stderr
    assert set(server.lines) <= {read(folder / "lock.json")["identity"]}
    rows = next(iter(server.lines.values()), {})
    flat = [
        plain(rows[number]) for number in sorted(rows) if not re.search('"(tables|pictures)/', json.dumps(rows[number]))
    ]
    assert flat == logged(folder)
    assert server.ends[-1] == code


def test_a_clean_end(tmp_path, server):
    done = quire("-m", *WANDB, f"runs={tmp_path}", "seed=0")
    assert done.returncode == 0, done.stderr
    folder = only_folder(tmp_path)
    found = assert_whole(folder, code=0)
    assert of_kind(found, "run")[0].run_group.startswith("uosr-")
    assert_syncs(folder, server, code=0)


@pytest.mark.parametrize("mistake", [["callbacks.best.monitor=nothing"], ["trainer.val_check_interval=1000"]])
def test_a_failure_while_training_and_one_before(mistake, tmp_path, server):
    done = quire(*WANDB, f"runs={tmp_path}", *mistake)
    assert done.returncode == 1, done.stdout + done.stderr
    folder = only_folder(tmp_path)
    assert_whole(folder, code=1)
    assert_syncs(folder, server, code=1)


def test_killed_twice_and_run_to_the_end(tmp_path, server):
    """Kill at once, when W&B may have written nothing; kill when it has; neither may be missing in the end."""
    process = start(*WANDB, f"runs={tmp_path}")
    wait_for(lambda: list(tmp_path.glob("*/*/metrics.jsonl")) and len(logged(only_folder(tmp_path))) >= 3, process)
    kill(process)
    folder = only_folder(tmp_path)
    assert all(not of_kind(records(file), "exit") for file in wandb_files(folder))

    known = wandb_files(folder)
    process = start(*WANDB, f"runs={tmp_path}")
    wait_for(lambda: len(logged(folder)) >= 14 and set(wandb_files(folder)) - set(known), process)
    os.kill(process.pid, signal.SIGSTOP)  # wandb's own process goes on and writes what it has been sent
    wait_for(lambda: len(mirrored(records(wandb_files(folder)[-1]))) >= 5, process)
    kill(process)
    found = records(wandb_files(folder)[-1])
    rows = mirrored(found)
    assert rows == logged(folder)[: len(rows)]
    assert not of_kind(found, "exit")

    assert quire(*WANDB, f"runs={tmp_path}").returncode == 0
    assert_whole(folder, code=0)
    assert_syncs(folder, server, code=0)
