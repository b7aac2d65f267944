#!/usr/bin/env python3
"""What the clips of alarms cost, printed: memory and processor time of an agent with clips on and off, the memory while a
clip is made, and how late verdicts come while a clip is fetched over MQTT.

    python3 -m venv VENV && VENV/bin/pip install paho-mqtt==2.1.0
    VENV/bin/python benches/clips.py [--machines 1 16] [--seconds 60] [--fetches 20]

Needs target/release/auscult and mosquitto. Loopback alone; everything ends with the script.
"""

import argparse
import base64
import datetime
import json
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import uuid

from paho.mqtt import client as mqtt

from processes import free_port, memory_mb, share

ROOT = pathlib.Path(__file__).resolve().parent.parent
TIMEOUT_S = 120


def wait(what, done):
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        found = done()
        if found:
            return found
        if time.monotonic() > deadline:
            raise SystemExit(f"not within {TIMEOUT_S} s: {what}")
        time.sleep(0.02)


def thread_s(pid, name):
    """Processor time of the thread of this name."""
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        if (task / "comm").read_text().strip() == name:
            fields = (task / "stat").read_text().rsplit(") ", 1)[1].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    raise SystemExit(f"no thread {name}")


class Peak:
    """The most memory that a process has while this runs."""

    def __init__(self, pid):
        self.most, self.ending = 0, False
        self.thread = threading.Thread(target=self._look, args=(pid,))
        self.thread.start()

    def _look(self, pid):
        while not self.ending:
            self.most = max(self.most, memory_mb(pid, "VmRSS"))
            time.sleep(0.002)

    def end(self):
        self.ending = True
        self.thread.join()
        return self.most


def quantile(values, share):
    return sorted(values)[min(len(values) - 1, round(share * (len(values) - 1)))]


class Site:
    """An agent of simulated machines, a broker, and who commands it."""

    def __init__(self, directory, port, machines, keep_mb, auscult):
        self.delays, self.replies, self.alarms = [], {}, {}
        self.lock = threading.Lock()
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
        self.client.on_message = self._heard
        self.client.connect("127.0.0.1", port)
        self.client.subscribe("auscult/#", qos=1)
        self.client.loop_start()
        config = directory / "agent.toml"
        each = "".join(f'[[machine]]\nid = "fan-{n}"\nmodel = "fan-a"\nhop_s = 1.0\nsource = {{ synth = "fan", seed = {n} }}\n'
                       for n in range(machines))
        config.write_text(f'[agent]\nid = "pi"\nstate_dir = "{directory}/state"\n[mqtt]\nurl = "mqtt://127.0.0.1:{port}"\n'
                          f'[bundle]\npath = "{ROOT}/models/demo"\n[privacy]\nallow_audio = true\n'
                          f'[evidence]\nkeep_mb = {keep_mb}\n[alarm]\nclear_after_s = 0.0\n{each}')
        log = open(directory / "agent.log", "w")
        self.process = subprocess.Popen([auscult, "run", "--config", config], stdout=log, stderr=log)
        self.log, self.machines = directory / "agent.log", machines
        wait("every machine's verdict", lambda: self.process.poll() is None and len(self.alarms) == machines)

    def _heard(self, _client, _data, message):
        at = datetime.datetime.now(datetime.timezone.utc)
        part = message.topic.split("/")[-1]
        if part not in ("verdict", "reply", "alarm") or not message.payload:
            return
        payload = json.loads(message.payload)
        with self.lock:
            if part == "verdict" and not payload["late"]:
                ts = datetime.datetime.fromisoformat(payload["ts"].replace("Z", "+00:00"))
                self.delays.append(1000 * (at - ts).total_seconds())
                self.alarms.setdefault(payload["machine"], None)
            elif part == "reply":
                self.replies[payload.get("id")] = payload
            elif part == "alarm" and payload["state"] == "active":
                self.alarms[payload["machine"]] = payload.get("journal")

    def ask(self, command, **arguments):
        name = uuid.uuid4().hex
        self.client.publish("auscult/pi/control", json.dumps({"id": name, "command": command, **arguments}), qos=1)
        reply = wait(f"a reply to {command}", lambda: self.replies.pop(name, None))
        return reply["data"] if reply["status"] == "ok" else None

    def rest(self, seconds):
        """Processor time while it only listens, % of a core."""
        return share(self.process.pid, seconds)

    def end(self):
        self.client.loop_stop()
        self.process.terminate()
        self.process.wait()


def fetch(site, alarm):
    """All files of a clip; how many bytes, and how long it took, s."""
    begun, total = time.monotonic(), 0
    for file in site.ask("evidence.get", alarm=alarm)["clip"]:
        offset = 0
        while offset < file["bytes"]:
            piece = site.ask("evidence.get", alarm=alarm, file=file["file"], offset=offset)
            offset += len(base64.b64decode(piece["data"]))
        total += file["bytes"]
    return total, time.monotonic() - begun


def measure(args, directory, port, machines, keep_mb):
    site = Site(directory, port, machines, keep_mb, args.auscult)
    pid = site.process.pid
    # Nothing but what is raised below.
    site.ask("threshold.set", machine="*", threshold=900.0)
    # The ring is a minute long.
    time.sleep(max(0, 62 - args.seconds))
    share = site.rest(args.seconds)
    with site.lock:
        idle, site.delays = site.delays, []
    memory = memory_mb(pid, "VmRSS")
    row = {"machines": machines, "clips": "on" if keep_mb else "off", "cpu_percent": share, "memory_mb": memory,
           "verdict_p50_ms": quantile(idle, 0.5), "verdict_p99_ms": quantile(idle, 0.99)}
    if keep_mb:
        site.alarms["fan-0"] = None
        before, peak = thread_s(pid, "clips"), Peak(pid)
        site.ask("threshold.set", machine="fan-0", threshold=1e-6)
        alarm = wait("the alarm", lambda: site.alarms["fan-0"])
        site.ask("threshold.set", machine="fan-0", threshold=900.0)
        wait("the clip", lambda: site.ask("alarm.get", alarm=alarm)["alarms"][0]["clip"] or time.sleep(0.5))
        row |= {"clip_memory_mb": peak.end() - memory, "clip_cpu_s": thread_s(pid, "clips") - before}
        with site.lock:
            site.delays = []
        took = [fetch(site, alarm) for _ in range(args.fetches)]
        with site.lock:
            busy = site.delays
        row |= {"clip_bytes": took[0][0], "fetch_s": quantile([seconds for _, seconds in took], 0.5),
                "fetching_p50_ms": quantile(busy, 0.5), "fetching_p99_ms": quantile(busy, 0.99), "verdicts": len(busy)}
    site.end()
    return row


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--machines", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--fetches", type=int, default=20)
    parser.add_argument("--auscult", default=ROOT / "target/release/auscult")
    args = parser.parse_args()
    for machines in args.machines:
        for keep_mb in (0, 500):
            with tempfile.TemporaryDirectory(prefix="auscult-clips-") as directory:
                port = free_port()
                program = shutil.which("mosquitto", path=os.environ["PATH"] + ":/usr/sbin")
                broker = subprocess.Popen([program, "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                try:
                    wait("mosquitto", lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0)
                    row = measure(args, pathlib.Path(directory), port, machines, keep_mb)
                finally:
                    broker.terminate()
                print("  ".join(f"{name}={value:.2f}" if isinstance(value, float) else f"{name}={value}"
                                for name, value in row.items()), flush=True)


if __name__ == "__main__":
    main()
