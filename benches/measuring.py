"""Runs commands for the measuring scripts: each in its own process group, bounded in time, its answer kept as it is."""

import json
import os
import platform
import shutil
import signal
import subprocess
import tarfile
import time

NO_GPU = "not measured: no GPU"


class NotMeasured(Exception):
    """A part that cannot be measured here, and why."""


class Answer:
    """What a command left behind."""

    def __init__(self, command, code, out, err, seconds, timed_out):
        self.command, self.code, self.out, self.err = command, code, out, err
        self.seconds, self.timed_out = seconds, timed_out

    def json(self):
        """The last line, or the whole, of stdout as JSON; None where it is none."""
        for text in (self.out, (self.out.strip().splitlines() or [""])[-1]):
            try:
                return json.loads(text)
            except ValueError:
                continue
        return None

    def record(self):
        """For the report: the answer as it is, and what went wrong where something did."""
        kept = {"command": self.command, "exit_code": self.code, "seconds": round(self.seconds, 3)}
        if self.timed_out:
            kept["timed_out"] = True
        parsed = self.json()
        if parsed is not None:
            kept["answer"] = parsed
        if self.code != 0:
            kept["stderr_end"] = self.err[-1500:]
            kept["stdout_end"] = "" if parsed is not None else self.out[-1500:]
        return kept

    def failure(self):
        """Why there is nothing to read in it, in a line; None where there is."""
        if self.timed_out:
            return "took longer than %.0f s" % self.seconds
        if self.code != 0:
            lines = [line for line in self.err.strip().splitlines() if line.strip()] or ["no message"]
            return "exit code %d: %s" % (self.code, lines[0][:300])
        return None

    def is_unknown_command(self):
        return self.code == 2 and ("unrecognized subcommand" in self.err or "unexpected argument" in self.err)


def run(command, limit_s, log=None, environment=None):
    """Runs to the end or to the limit; what it started dies with it. `log` is a path without ending."""
    command = [str(part) for part in command]
    begin = time.monotonic()
    try:
        process = start(command, environment)
    except OSError as error:
        return Answer(command, 127, "", str(error), 0.0, False)
    timed_out = False
    try:
        out, err = process.communicate(timeout=max(limit_s, 0.1))
    except subprocess.TimeoutExpired:
        timed_out = True
        kill(process)
        out, err = process.communicate()
    answer = Answer(command, process.returncode, out, err, time.monotonic() - begin, timed_out)
    if log:
        for ending, text in ((".out", out), (".err", err)):
            if text:
                with open(log + ending, "w", encoding="utf-8") as file:
                    file.write(text)
    return answer


def start(command, environment=None):
    environment = dict(os.environ, **(environment or {}))
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [str(part) for part in command], stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True, errors="replace",
        start_new_session=True, env=environment,
    )


def kill(process, how=signal.SIGKILL):
    """The process and all it started."""
    try:
        os.killpg(process.pid, how)
    except ProcessLookupError:
        pass


def opponent(script, python, limit_s):
    """The version of PyTorch that the opponent's script would run with; NotMeasured where it cannot run."""
    if not script:
        raise NotMeasured("not measured: no opponent given (`--opponent simclr_torch.py`)")
    if not os.path.isfile(script):
        raise NotMeasured("not measured: there is no `%s`" % script)
    torch = run([python, "-c", "import torch, torchvision; print(torch.__version__)"], limit_s)
    if torch.code != 0:
        raise NotMeasured("not measured: `%s` has no torch with torchvision" % python)
    return torch.out.strip()


def images(data, folder):
    """The folder of images the opponent reads; an archive is unpacked to `folder`."""
    if data and not os.path.exists(data):
        raise NotMeasured("not measured: there is no `%s`" % data)
    if not data:
        raise NotMeasured("not measured: no images given (`--data cifar10.tar.xz`, or the folder it unpacks to)")
    if os.path.isdir(data):
        return data
    with tarfile.open(data) as archive:
        safe = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        archive.extractall(folder, **safe)
    return folder


def dataset(path):
    """As an experiment file says it: an archive or a folder of images, or the official binary files."""
    path = os.path.abspath(path)
    kind = "Cifar10" if os.path.isdir(os.path.join(path, "cifar-10-batches-bin")) else "ImageFolder"
    return '%s(root: "%s")' % (kind, path.replace("\\", "\\\\").replace('"', '\\"'))


def write_json(path, value):
    """Whole or not at all."""
    temporary = path + ".tmp"
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=1)
        file.write("\n")
    os.replace(temporary, path)


def gpu():
    """Name, driver and memory of the first GPU as nvidia-smi tells them; None without one."""
    if not shutil.which("nvidia-smi"):
        return None
    answer = run(["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"], 20)
    lines = answer.out.strip().splitlines()
    if answer.code != 0 or not lines:
        return None
    fields = [field.strip() for field in lines[0].split(",")]
    return dict(zip(("name", "driver", "memory"), fields), n_gpus=len(lines))


def gpu_of(binary):
    """As the program itself finds it, where nvidia-smi is not installed; None without one."""
    found = run([binary, "doctor", "--json"], 60).json() or {}
    if not found.get("gpus"):
        return None
    first = found["gpus"][0]
    memory = "%d MiB" % (first["memory_bytes"] >> 20)
    return {"name": first["name"], "driver": found.get("kernel_module") or "unknown", "memory": memory, "n_gpus": len(found["gpus"])}


def machine(binary=None):
    processor = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
        processor = names[0] if names else processor
    except OSError:
        pass
    return {
        "gpu": gpu() or (gpu_of(binary) if binary else None),
        "processor": processor,
        "cores": os.cpu_count(),
        "system": "%s %s" % (platform.system(), platform.release()),
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def records(store):
    """The records of a store: the header's lines up to the body's length (see the store's own documentation)."""
    found = {}
    for folder, _, names in os.walk(os.path.join(store, "records")):
        for name in names:
            if name.endswith(".record"):
                record = {"blobs": {}}
                try:
                    with open(os.path.join(folder, name), "rb") as file:
                        read_header(file, record)
                except OSError:
                    continue
                found[name[: -len(".record")]] = record
    return found


def read_header(file, record):
    for _ in range(64):
        words = file.readline().decode("utf-8", "replace").split()
        if not words:
            return
        if words[0] == "blob" and len(words) == 4:
            record["blobs"][words[3]] = words[1]
        elif words[0] == "body":
            return


def checkpoints(store):
    """Key of a training -> digest of its checkpoint."""
    found = {key: record["blobs"].get("checkpoint") for key, record in records(store).items()}
    return {key: digest for key, digest in found.items() if digest}


def find_number(value, name):
    """The first number of this name, wherever it lies in an answer."""
    if isinstance(value, dict):
        number = value.get(name)
        if isinstance(number, (int, float)) and not isinstance(number, bool):
            return number
        children = list(value.values())
    elif isinstance(value, list):
        children = value
    else:
        return None
    for child in children:
        number = find_number(child, name)
        if number is not None:
            return number
    return None
