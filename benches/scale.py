#!/usr/bin/env python3
"""How many agents a broker bears on this computer, and how long the storm after its restart lasts. Broker and fleet share the cores.

    benches/scale.py [--agents 500] [--machines 8] [--seconds 40] [--kill 1] [mosquitto] [nats] [rabbitmq]

mosquitto is one broker, NATS and RabbitMQ have three nodes with a third of the fleet each (`auscult simulate`, real pace, QoS 1,
retained, clean sessions). Two runs each: one that is left in peace (PUBACK, memory, processor time); and one in whose middle a
node is killed (`kill -9`; `--kill 3`: all of them) and started again after 5 s: the time from that start until a subscriber
(mosquitto_sub) has seen a new verdict of every machine. The pace itself is 5 s of that. What agents would send late is not part
of it.
"""

import argparse
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

from processes import cpu_s, free_port, memory_mb, wait_until

ROOT = pathlib.Path(__file__).resolve().parent.parent
AUSCULT = os.environ.get("AUSCULT", str(ROOT / "target/release/auscult"))
PATH = os.environ["PATH"] + ":/usr/sbin"


def answers(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


class Node:
    """One broker; what it starts is in its group and ends with it."""

    def __init__(self, port, command, environment, log):
        self.port, self.command, self.environment, self.log = port, command, environment, log
        self.process = None

    def start(self):
        log = open(self.log, "a")
        environment = os.environ | {"PATH": PATH} | self.environment
        self.process = subprocess.Popen(
            self.command, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
        )

    def kill(self):
        if self.process:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def of_all(self, measured):
        """The sum over the processes of its group; one that ends meanwhile counts nothing."""
        total = 0
        for directory in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                if self.process and os.getpgid(int(directory.name)) == self.process.pid:
                    total += measured(int(directory.name))
            except (OSError, StopIteration):
                pass
        return total

    def memory_mb(self):
        return self.of_all(memory_mb)

    def seconds(self):
        return self.of_all(cpu_s)


def mosquitto(directory):
    port, config = free_port(), directory / "mosquitto.conf"
    text = f"listener {port} 127.0.0.1\nallow_anonymous true\nlog_type error\nmax_queued_messages 100000\nuser root\n"
    config.write_text(f"{text}persistence true\npersistence_location {directory}/\nautosave_interval 60\n")
    return [Node(port, ["mosquitto", "-c", config], {}, directory / "log")]


def nats(directory):
    routes = [free_port() for _ in range(3)]
    nodes = []
    for number in range(3):
        port, config = free_port(), directory / f"{number}.conf"
        others = ", ".join(f"nats://127.0.0.1:{route}" for route in routes)
        config.write_text(
            f"server_name: n{number}\nlisten: 127.0.0.1:{free_port()}\n"
            f"cluster {{ name: c, listen: 127.0.0.1:{routes[number]}, routes: [{others}] }}\n"
            f"mqtt {{ listen: 127.0.0.1:{port}, stream_replicas: 3, consumer_replicas: 3 }}\n"
            f"jetstream {{ store_dir: \"{directory}/store-{number}\" }}\n"
        )
        program = os.environ.get("NATS_SERVER", "nats-server")
        nodes.append(Node(port, [program, "-c", config], {}, directory / f"log-{number}"))
    return nodes


def rabbitmq(directory):
    (directory / ".erlang.cookie").write_text("auscult-bench")
    (directory / ".erlang.cookie").chmod(0o400)
    (directory / "plugins").write_text("[rabbitmq_mqtt].\n")
    names = free_port()
    epmd = Node(names, ["epmd", "-port", str(names), "-address", "127.0.0.1"], {}, directory / "log-names")
    nodes = [epmd]
    for number in range(3):
        port, config = free_port(), directory / f"{number}.conf"
        known = "".join(f"cluster_formation.classic_config.nodes.{n + 1} = node-{n}@localhost\n" for n in range(3))
        config.write_text(
            f"cluster_formation.peer_discovery_backend = classic_config\n{known}"
            f"listeners.tcp = none\nmqtt.listeners.tcp.1 = 127.0.0.1:{port}\nmqtt.allow_anonymous = true\n"
            "mqtt.durable_queue_type = quorum\n"
        )
        environment = {
            "HOME": str(directory),
            "ERL_EPMD_PORT": str(names),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_NODENAME": f"node-{number}@localhost",
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_CONFIG_FILE": str(config),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(directory / f"mnesia-{number}"),
            "RABBITMQ_LOG_BASE": str(directory / f"rabbitmq-log-{number}"),
            "RABBITMQ_PID_FILE": str(directory / f"pid-{number}"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} +sbwt none +sbwtdcpu none +sbwtdio none",
        }
        program = "/usr/lib/rabbitmq/bin/rabbitmq-server"
        nodes.append(Node(port, [program], environment, directory / f"log-{number}"))
    return nodes


class Seen:
    """When each machine's newest verdict came to a subscriber."""

    def __init__(self, port):
        command = ["mosquitto_sub", "-h", "127.0.0.1", "-p", str(port), "-q", "1", "-R", "-F", "%t", "-t", "+/+/+/verdict"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.at = {}
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for topic in self.process.stdout:
            self.at[topic.strip()] = time.monotonic()

    def stop(self):
        self.process.kill()
        self.process.wait()


def simulate(brokers, arguments, seconds):
    agents = arguments.agents // len(brokers)
    command = lambda number, port: [
        AUSCULT, "simulate", "--json", "--broker", f"mqtt://127.0.0.1:{port}", "--root", f"auscult{number}",
        "--agents", str(agents), "--machines", str(arguments.machines), "--seconds", str(seconds),
    ]  # fmt: skip
    started = [command(number, node.port) for number, node in enumerate(brokers)]
    return [subprocess.Popen(it, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) for it in started]


def results(fleets):
    return [json.loads(fleet.communicate()[0].splitlines()[-1]) for fleet in fleets]


def measure(name, make, arguments):
    with tempfile.TemporaryDirectory() as directory:
        nodes = make(pathlib.Path(directory))
        fleets = []
        try:
            for node in nodes:
                node.start()
            for node in nodes:
                wait_until(f"{name} answers", 180, lambda node=node: answers(node.port))
            time.sleep(5)
            brokers = [node for node in nodes if node.command[0] != "epmd"]

            before = sum(node.seconds() for node in brokers)
            fleets = simulate(brokers, arguments, arguments.seconds)
            memory = 0
            while any(fleet.poll() is None for fleet in fleets):
                memory = max(memory, sum(node.memory_mb() for node in brokers))
                time.sleep(1)
            peace = results(fleets)
            cpu = (sum(node.seconds() for node in brokers) - before) / arguments.seconds

            total = arguments.agents // len(brokers) * len(brokers) * arguments.machines
            # Long enough for whatever comes; it is ended below.
            fleets = simulate(brokers, arguments, 900)
            seen = Seen(brokers[-1].port)
            flowing = "not all"
            deadline = time.monotonic() + 2 * arguments.seconds
            while time.monotonic() < deadline and len(seen.at) < total:
                time.sleep(0.2)
            seen.stop()
            before_kill = len(seen.at)
            killed = brokers[: arguments.kill]
            for node in killed:
                node.kill()
            time.sleep(5)
            begin = time.monotonic()
            for node in killed:
                node.start()
            for node in killed:
                wait_until(f"{name} answers again", 180, lambda node=node: answers(node.port))
            answered = time.monotonic() - begin
            seen = Seen(brokers[-1].port)
            while time.monotonic() < begin + arguments.patience and len(seen.at) < total:
                if seen.process.poll() is not None:
                    at, seen = seen.at, Seen(brokers[-1].port)
                    seen.at.update(at)
                time.sleep(0.2)
            if len(seen.at) >= total:
                flowing = f"{time.monotonic() - begin:.0f} s"
            else:
                flowing = f"{len(seen.at)} of {total} within {time.monotonic() - begin:.0f} s"
            seen.stop()
        finally:
            for fleet in fleets:
                fleet.kill()
                fleet.wait()
            for node in nodes:
                node.kill()
    p99 = max(result["puback_p99_ms"] or 0 for result in peace)
    median = max(result["puback_median_ms"] or 0 for result in peace)
    rate = sum(result["messages_per_s"] for result in peace)
    lost = sum(result["lost"] + result["held_back"] for result in peace)
    connected = sum(result["connects"] for result in peace)
    print(
        f"| {name} | {connected} x {arguments.machines} | {rate:.0f} | {median:.1f} ms | {p99:.0f} ms | {lost} | {memory:.0f} MB | "
        f"{100 * cpu:.0f} % | {before_kill} of {total} | {answered:.0f} s | {flowing} |",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--agents", type=int, default=500)
    parser.add_argument("--machines", type=int, default=8)
    parser.add_argument("--seconds", type=int, default=40)
    parser.add_argument("--kill", type=int, default=1, help="nodes that are killed at once")
    parser.add_argument("--patience", type=int, default=120, help="longest wait for the verdicts after it, seconds")
    parser.add_argument("brokers", nargs="*", default=["mosquitto", "nats", "rabbitmq"])
    arguments = parser.parse_args()
    # What was started ends with it, whoever ends it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    for program in ["mosquitto_sub", AUSCULT]:
        if not shutil.which(program, path=PATH):
            raise SystemExit(f"{program} is missing")
    print(
        "| broker | agents x machines | messages a second | PUBACK median | 99 % | lost or held back | memory | of a core | "
        "machines seen before | answers again after | every machine's verdict after |\n" + "|---" * 11 + "|"
    )
    makers = {"mosquitto": ("mosquitto", mosquitto), "nats": ("NATS, three nodes", nats), "rabbitmq": ("RabbitMQ, three nodes", rabbitmq)}
    for broker in arguments.brokers:
        measure(*makers[broker], arguments)


main()
