#!/usr/bin/env python3
"""What NATS loses of messages that several clients subscribe to, with nothing of auscult taking part.

Three clients (paho-mqtt, QoS 1, persistent sessions), one at each node, subscribe to one topic; a fourth publishes to it, waits
for each PUBACK, and pauses 50 ms on average. No node is killed. What was acknowledged and had not come to a client 40 s after the
last one, NATS has lost. Usage:

    python3 -m venv VENV && VENV/bin/pip install paho-mqtt==2.1.0
    VENV/bin/python benches/nats_loss.py [--nodes 3] [--replicas 3] [--consumer-replicas 3] [--subscribers 3] [--messages 300]

NATS_SERVER names another nats-server.
"""

import argparse
import os
import pathlib
import random
import subprocess
import tempfile
import threading
import time

from paho.mqtt import client as mqtt

from processes import free_port, wait_until

TOPIC = "loss/number"
TIMEOUT_S = 60
SETTLED_S = 40


def start(arguments, directory):
    """The nodes, and their ports for MQTT."""
    program = os.environ.get("NATS_SERVER", "/usr/sbin/nats-server")
    ports, routes = [free_port() for _ in range(arguments.nodes)], [free_port() for _ in range(arguments.nodes)]
    nodes = []
    for number in range(arguments.nodes):
        others = ", ".join(f"nats://127.0.0.1:{route}" for route in routes)
        cluster = f"cluster {{ name: c, listen: 127.0.0.1:{routes[number]}, routes: [{others}] }}"
        replicas = f"stream_replicas: {arguments.replicas}, consumer_replicas: {arguments.consumer_replicas}"
        config = directory / f"{number}.conf"
        config.write_text(
            f"server_name: n{number}\nlisten: 127.0.0.1:{free_port()}\n"
            f"{cluster if arguments.nodes > 1 else ''}\n"
            f"mqtt {{ listen: 127.0.0.1:{ports[number]}, {replicas} }}\n"
            f"jetstream {{ store_dir: \"{directory}/store-{number}\" }}\n"
        )
        log = open(directory / f"{number}.log", "w")
        nodes.append(subprocess.Popen([program, "-c", config], stdout=log, stderr=subprocess.STDOUT))
    return nodes, ports


def client(name, port, received=None):
    """Connects, and subscribes where there is a list for what comes."""
    ready = threading.Event()
    it = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=name, clean_session=False)
    it.on_connect = lambda *_: it.subscribe(TOPIC, 1) if received is not None else ready.set()
    it.on_subscribe = lambda *_: ready.set()
    it.on_message = lambda _client, _data, message: received.append(int(message.payload))

    def is_connected():
        try:
            it.connect("127.0.0.1", port, keepalive=10)
            return True
        except OSError:
            return False

    wait_until(f"{name} connects", TIMEOUT_S, is_connected)
    it.loop_start()
    wait_until(f"{name} is ready", TIMEOUT_S, ready.is_set)
    return it


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--replicas", type=int, default=3)
    parser.add_argument("--consumer-replicas", type=int)
    parser.add_argument("--subscribers", type=int, default=3)
    parser.add_argument("--messages", type=int, default=300)
    arguments = parser.parse_args()
    arguments.consumer_replicas = arguments.consumer_replicas or arguments.replicas
    with tempfile.TemporaryDirectory() as directory:
        nodes, ports = start(arguments, pathlib.Path(directory))
        try:
            received = [[] for _ in range(arguments.subscribers)]
            for number, came in enumerate(received):
                client(f"subscriber-{number}", ports[number % arguments.nodes], came)
            publisher = client("publisher", ports[0])
            for number in range(arguments.messages):
                sent = publisher.publish(TOPIC, str(number), 1)
                sent.wait_for_publish(TIMEOUT_S)
                if not sent.is_published():
                    raise SystemExit(f"message {number} was not acknowledged")
                time.sleep(random.random() * 0.1)
            every = set(range(arguments.messages))
            deadline = time.monotonic() + SETTLED_S
            while time.monotonic() < deadline and any(every - set(came) for came in received):
                time.sleep(0.2)
            lost = [len(every - set(came)) for came in received]
        finally:
            for node in nodes:
                node.kill()
                node.wait()
    deliveries = arguments.messages * arguments.subscribers
    print(f"{sum(lost)} of {deliveries} deliveries lost: {', '.join(map(str, lost))} of {arguments.messages} by subscriber")


main()
