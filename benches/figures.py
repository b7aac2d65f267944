#!/usr/bin/env python3
"""The figures of docs/figures.md, printed: what a window costs beside the original's way, the start, the memory.

    make figures                            # or: benches/figures.py [--rounds 20] [--seconds 30] [--offline]
    benches/figures.py --program target/dist/auscult        # start, memory and `score` of what is packaged

Needs ../shared (bundle, audio, reference.py) and mosquitto. The original's libraries go into target/reference, once.
Everything runs on one core (taskset), in turns, on the loopback network, and ends with the script.
"""
import argparse
import os
import pathlib
import platform
import shutil
import socket
import statistics
import subprocess
import tempfile
import time

from processes import free_port, memory_mb

ROOT = pathlib.Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"
BUNDLE = SHARED / "escoita-bundle"
WAV = SHARED / "audio/mimii_fan_id_04_normal_00000126.wav"
REFERENCE = SHARED / "reference/reference.py"
LIBRARY = ROOT / "target/litert" / platform.machine() / "libLiteRt.so"
BUILT = ROOT / "target/release/auscult"
PINNED = ["taskset", "-c", "0"]
MACHINE = "id_04"


def python():
    """An interpreter with what reference.py needs."""
    venv = ROOT / "target/reference"
    found = venv / "bin/python"
    if not (venv / "complete").exists():
        subprocess.run(["python3", "-m", "venv", venv], check=True)
        wanted = ["numpy<2", "librosa==0.11.0", "soundfile", "ai-edge-litert==2.3.0"]
        subprocess.run([found, "-m", "pip", "install", "-q", *wanted], check=True)
        (venv / "complete").touch()
    return found


class Broker:
    """A mosquitto on a free port."""

    def __init__(self, folder):
        self.port = free_port()
        config = pathlib.Path(folder) / "mosquitto.conf"
        config.write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\n")
        program = shutil.which("mosquitto", path=os.environ["PATH"] + ":/usr/sbin")
        self.child = subprocess.Popen([program, "-c", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except ConnectionRefusedError:
                time.sleep(0.05)

    def end(self):
        self.child.terminate()
        self.child.wait()


def agent(program, folder, port, machines, engine):
    """Starts `auscult run`; the process and its log as it comes."""
    state = pathlib.Path(tempfile.mkdtemp(dir=folder))
    lines = [
        f'[agent]\nid = "bench"\nstate_dir = "{state}"', f'[mqtt]\nurl = "mqtt://127.0.0.1:{port}"',
        f'[bundle]\npath = "{BUNDLE}"', f'[encoder]\nengine = "{engine}"\nlibrary = "{LIBRARY}"',
    ]
    for number in range(machines):
        lines.append(f'[[machine]]\nid = "fan-{number}"\nmodel = "{MACHINE}"\nsource = {{ wav = "{WAV}", loop = true }}')
    config = state / "agent.toml"
    config.write_text("\n".join(lines) + "\n")
    command = [*PINNED, program, "run", "--config", config]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def until(child, word):
    """Seconds until its stderr says `word`."""
    for line in child.stderr:
        if word in line:
            return
    raise SystemExit(f"ended before it said {word!r}")


def starts(program, folder, port, interpreter, runs):
    """Seconds from exec to ready: auscult listening with everything warm, the original with one window scored."""
    found = {"native": [], "litert": [], "tract": [], "original": []}
    for _ in range(runs):
        for engine in ("native", "litert", "tract"):
            begun = time.perf_counter()
            child = agent(program, folder, port, 1, engine)
            until(child, "listening")
            found[engine].append(time.perf_counter() - begun)
            child.terminate()
            child.communicate()
        begun = time.perf_counter()
        script = ROOT / "benches/original.py"
        child = subprocess.Popen([*PINNED, interpreter, script, REFERENCE, BUNDLE, WAV, MACHINE, "ready"],
                                 stdout=subprocess.PIPE, text=True)
        assert child.stdout.readline() == "ready\n"
        found["original"].append(time.perf_counter() - begun)
        child.wait()
    return {name: statistics.median(times) for name, times in found.items()}


def memory(program, folder, port, machines, engine, seconds):
    """Peak resident MB of an agent that has run for a while, and the share of it that is shared with files."""
    child = agent(program, folder, port, machines, engine)
    until(child, "listening")
    time.sleep(seconds)
    found = tuple(memory_mb(child.pid, name) for name in ("VmHWM", "VmRSS", "RssFile"))
    child.terminate()
    child.communicate()
    return found


def used(command):
    """Processor time of a command, s, and its peak memory, MB."""
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    if status != 0:
        raise SystemExit(f"{command[0]} ended with {status}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def score(program, interpreter, runs):
    """`auscult score` and the original's functions on the same windows, 150 or so, in turns: medians."""
    files = 38 * sorted(WAV.parent.glob("*.wav"))
    ways = {
        "auscult": [program, "score", "--bundle", BUNDLE, "--machine", MACHINE, *files],
        "original": [interpreter, ROOT / "benches/original.py", REFERENCE, BUNDLE, WAV, MACHINE, "score", *files],
    }
    found = {name: [] for name in ways}
    for _ in range(runs):
        for name, command in ways.items():
            found[name].append(used(command))
    return {name: tuple(map(statistics.median, zip(*times))) for name, times in found.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--starts", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--program", type=pathlib.Path, help="measure this one, and build nothing")
    args, cargo = parser.parse_known_args()
    interpreter = python()
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    print(f"{platform.machine()}, {cpu}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
    if args.program is None:
        args.program = BUILT
        # The program is built along with a benchmark, with the features that the tests have already built.
        subprocess.run(["cargo", "bench", "--no-run", "--bench", "window", *cargo], check=True, cwd=ROOT)
        subprocess.run([*PINNED, "cargo", "bench", "-q", "--bench", "window", *cargo, "--", "--bundle", BUNDLE,
                        "--machine", MACHINE, "--wav", WAV, "--library", LIBRARY, "--python", interpreter,
                        "--reference", REFERENCE, "--rounds", str(args.rounds)], check=True, cwd=ROOT)
    found = score(args.program, interpreter, 7)
    print("\n| 38 times the recordings of ../shared/audio | processor time, s | peak MB |\n|---|--:|--:|")
    for name, (cpu_s, mb) in found.items():
        print(f"| {name} | {cpu_s:.2f} | {mb:.1f} |")
    print("| beside the original | {:.3f} | {:.3f} |".format(*(a / b for a, b in zip(found["auscult"], found["original"]))))
    with tempfile.TemporaryDirectory() as folder:
        broker = Broker(folder)
        try:
            found = starts(args.program, folder, broker.port, interpreter, args.starts)
            print("\n| start to ready | s | beside the original |\n|---|--:|--:|")
            for name, seconds in found.items():
                print(f"| {name} | {seconds:.3f} | {seconds / found['original']:.3f} |")
            print("\n| `auscult run`, MB resident | peak | at the end | of it from files |\n|---|--:|--:|--:|")
            for engine in ("native", "litert", "tract"):
                for machines in (1, 16):
                    peak, now, file = memory(args.program, folder, broker.port, machines, engine, args.seconds)
                    print(f"| {engine}, {machines} machine{'s'[:machines > 1]} | {peak:.1f} | {now:.1f} | {file:.1f} |")
        finally:
            broker.end()


if __name__ == "__main__":
    main()
