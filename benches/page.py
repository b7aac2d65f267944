#!/usr/bin/env python3
"""The figures of the page, printed: a console beside a fleet, and what an open page costs an agent.

    benches/page.py [--agents 500] [--machines 4] [--seconds 30]

Needs target/release/auscult, mosquitto and what tests/page/setup.sh installs. Loopback alone; everything ends with the script.
"""
import argparse
import json
import pathlib
import socket
import subprocess
import tempfile
import time

from processes import free_port, memory_mb, share

ROOT = pathlib.Path(__file__).resolve().parent.parent
AUSCULT = ROOT / "target/release/auscult"
QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def wait_port(port):
    for _ in range(600):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise SystemExit(f"nobody listens on port {port}")


def browser(*arguments, **more):
    return subprocess.Popen(["node", ROOT / "benches/page.mjs", *map(str, arguments)], stdout=subprocess.PIPE, text=True, **more)


def fleet(args, directory):
    broker, port = free_port(), free_port()
    config = directory / "mosquitto.conf"
    config.write_text(f"listener {broker} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 100000\n")
    programs = [subprocess.Popen(["mosquitto", "-c", config], **QUIET)]
    try:
        wait_port(broker)
        url = f"mqtt://127.0.0.1:{broker}"
        simulate = [AUSCULT, "simulate", "--broker", url, "--agents", args.agents, "--machines", args.machines, "--seconds", 600]
        programs.append(subprocess.Popen(list(map(str, simulate)), **QUIET))
        console = subprocess.Popen([AUSCULT, "console", "--broker", url, "--listen", f"127.0.0.1:{port}"], **QUIET)
        programs.append(console)
        wait_port(port)
        time.sleep(20)  # every machine has reported several times
        alone = share(console.pid, 10)
        figures = json.loads(browser("fleet", f"http://127.0.0.1:{port}/", args.agents * args.machines).communicate()[0])
        figures |= {"console_mb": round(memory_mb(console.pid), 1), "console_peak_mb": round(memory_mb(console.pid, "VmHWM"), 1),
                    "console_cpu_percent": round(alone, 1)}
        return figures
    finally:
        for program in reversed(programs):
            program.terminate()
            program.wait()


def agent(args, directory):
    port = free_port()
    machines = "".join(f'[[machine]]\nid = "{name}"\nsource = {{ synth = "{kind}" }}\n'
                       for name, kind in [("fan-a", "fan"), ("blower-a", "blower")])
    config = directory / "agent.toml"
    config.write_text(f'[agent]\nid = "pi-1"\nstate_dir = "{directory}/state"\n[mqtt]\nurl = "none"\n'
                      f'[bundle]\npath = "{ROOT}/models/demo"\n[web]\nlisten = "127.0.0.1:{port}"\n{machines}')
    program = subprocess.Popen([AUSCULT, "run", "--config", config], **QUIET)
    try:
        wait_port(port)
        time.sleep(10)
        closed, closed_mb = share(program.pid, args.seconds), memory_mb(program.pid)
        page = browser("agent", f"http://127.0.0.1:{port}/", args.seconds + 5)
        page.stdout.readline()
        opened, opened_mb = share(program.pid, args.seconds), memory_mb(program.pid)
        page.communicate()
        return {"closed_percent": round(closed, 2), "open_percent": round(opened, 2), "closed_mb": round(closed_mb, 1), "open_mb": round(opened_mb, 1)}
    finally:
        program.terminate()
        program.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agents", type=int, default=500)
    parser.add_argument("--machines", type=int, default=4)
    parser.add_argument("--seconds", type=int, default=30)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        directory = pathlib.Path(directory)
        print("agent, two machines:", json.dumps(agent(args, directory)), flush=True)
        print(f"console, {args.agents} agents x {args.machines} machines:", json.dumps(fleet(args, directory)), flush=True)


main()
