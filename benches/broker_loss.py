#!/usr/bin/env python3
"""What a broker loses after it has acknowledged it, with nothing of auscult taking part.

A publisher (paho-mqtt, QoS 1) counts the messages that mosquitto has acknowledged. mosquitto keeps its data on disk as
often as it can (`autosave_interval 1`, on every change) and is killed with SIGKILL again and again. A subscriber with a
persistent session at QoS 1 takes part in one of three ways:

  prompt  reads at once; after each kill the publisher waits until it is subscribed again
  slow    needs 8 ms for each message, so that some wait in the broker
  away    subscribes, leaves once the broker has its session on disk, and comes back at the end

What was acknowledged and never came to the subscriber, the broker has lost. Usage:

    python3 -m venv VENV && VENV/bin/pip install paho-mqtt==2.1.0
    VENV/bin/python benches/broker_loss.py [--kills 5] [--per-second 200] [--repeat 3]
"""

import argparse
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

from paho.mqtt import client as mqtt

from processes import free_port

TOPIC = "loss/number"
TIMEOUT_S = 60


def wait_until(what, done):
    deadline = time.monotonic() + TIMEOUT_S
    while not done():
        if time.monotonic() > deadline:
            raise SystemExit(f"not within {TIMEOUT_S} s: {what}")
        time.sleep(0.005)


class Broker:
    """mosquitto in a directory of its own, on a free port."""

    def __init__(self, directory):
        self.directory = pathlib.Path(directory)
        self.port = free_port()
        (self.directory / "mosquitto.conf").write_text(
            f"user root\nlistener {self.port} 127.0.0.1\nallow_anonymous true\n"
            "max_inflight_messages 0\nmax_queued_messages 0\nset_tcp_nodelay true\n"
            f"persistence true\npersistence_location {directory}/\nautosave_on_changes true\nautosave_interval 1\n"
        )
        self.process = None

    def start(self):
        program = shutil.which("mosquitto", path=os.environ["PATH"] + ":/usr/sbin")
        with open(self.directory / "log", "a") as log:
            self.process = subprocess.Popen([program, "-c", self.directory / "mosquitto.conf"], stderr=log, stdout=log)

        def answers():
            if self.process.poll() is not None:
                raise SystemExit("mosquitto does not start:\n" + (self.directory / "log").read_text())
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self.port)) == 0

        wait_until("mosquitto answers", answers)

    def save(self, words):
        """Has it write its data now, until these words are in the file."""
        file = self.directory / "mosquitto.db"
        self.process.send_signal(signal.SIGUSR1)
        wait_until("the data is written", lambda: file.exists() and words in file.read_bytes())

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


class Peer:
    """A client with a persistent session that connects again by itself."""

    def __init__(self, name, port):
        self.port = port
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=name, clean_session=False)
        self.client.max_inflight_messages_set(0)
        self.client.max_queued_messages_set(0)
        self.client.reconnect_delay_set(0.05, 0.2)

    def connect(self):
        self.client.connect("127.0.0.1", self.port, keepalive=10)
        self.client.loop_start()

    def leave(self):
        self.client.disconnect()
        self.client.loop_stop()


class Publisher(Peer):
    """Publishes the numbers from 0 on and knows which of them were acknowledged."""

    def __init__(self, port, per_second):
        super().__init__("publisher", port)
        # Packet identifiers; they begin anew only after 65535 messages.
        self.acknowledged = set()
        self.number_of = {}
        self.sent = 0
        self.may_send = threading.Event()
        self.may_send.set()
        self.ending = False
        self.client.on_publish = lambda _client, _data, mid, _code, _properties: self.acknowledged.add(mid)
        self.thread = threading.Thread(target=self._publish, args=(1 / per_second,))

    def _publish(self, every_s):
        while not self.ending:
            self.may_send.wait()
            info = self.client.publish(TOPIC, str(self.sent), qos=1)
            self.number_of[info.mid] = self.sent
            self.sent += 1
            time.sleep(every_s)

    def start(self):
        self.connect()
        self.thread.start()

    def end(self):
        self.ending = True
        self.thread.join()
        wait_until("everything is acknowledged", lambda: len(self.acknowledged) == self.sent)
        self.leave()


class Subscriber(Peer):
    def __init__(self, port, each_s=0.0):
        super().__init__("subscriber", port)
        self.each_s = each_s
        self.numbers = set()
        self.last = time.monotonic()
        self.subscribed = 0
        self.client.on_connect = lambda client, *_: client.subscribe(TOPIC, qos=1)
        self.client.on_subscribe = self._subscribe
        self.client.on_message = self._message

    def _subscribe(self, *_):
        self.subscribed += 1

    def _message(self, _client, _data, message):
        if self.each_s:
            time.sleep(self.each_s)
        self.numbers.add(int(message.payload))
        self.last = time.monotonic()

    def wait_subscribed(self, times):
        wait_until("the subscriber is back", lambda: self.subscribed >= times)


def lost(kind, kills, per_second):
    """How many messages were acknowledged, and how many of them never came."""
    with tempfile.TemporaryDirectory(prefix="broker-loss-") as directory:
        broker = Broker(directory)
        broker.start()
        subscriber = Subscriber(broker.port, 0.008 if kind == "slow" else 0.0)
        subscriber.connect()
        subscriber.wait_subscribed(1)
        if kind == "away":
            broker.save(b"subscriber")
            subscriber.leave()
        publisher = Publisher(broker.port, per_second)
        publisher.start()
        for _ in range(kills):
            time.sleep(random.uniform(0.1, 0.7))
            before = subscriber.subscribed
            if kind == "prompt":
                # paho sends again what was not acknowledged as soon as it is connected: it comes back last.
                publisher.may_send.clear()
                broker.kill()
                publisher.client.loop_stop()
            else:
                broker.kill()
            time.sleep(random.uniform(0, 0.2))
            broker.start()
            if kind == "prompt":
                subscriber.wait_subscribed(before + 1)
                publisher.client.reconnect()
                publisher.client.loop_start()
                publisher.may_send.set()
        publisher.end()
        if kind == "away":
            subscriber.connect()
        wait_until("nothing more comes", lambda: time.monotonic() - subscriber.last > 3)
        subscriber.leave()
        broker.kill()
        acknowledged = {publisher.number_of[mid] for mid in publisher.acknowledged}
        return len(acknowledged), len(acknowledged - subscriber.numbers)


def main():
    arguments = argparse.ArgumentParser(description="Counts what mosquitto loses after its PUBACK.")
    arguments.add_argument("--kills", type=int, default=5)
    arguments.add_argument("--per-second", type=float, default=200)
    arguments.add_argument("--repeat", type=int, default=3)
    options = arguments.parse_args()
    program = shutil.which("mosquitto", path=os.environ["PATH"] + ":/usr/sbin")
    version = subprocess.run([program, "-h"], capture_output=True, text=True).stdout.split("\n")[0]
    print(f"{version}; {options.kills} kills each time, {options.per_second:g} messages a second\n")
    print("| subscriber | acknowledged | of them lost |\n|---|---:|---:|")
    for kind in ["prompt", "slow", "away"]:
        for _ in range(options.repeat):
            acknowledged, missing = lost(kind, options.kills, options.per_second)
            print(f"| {kind} | {acknowledged} | {missing} |", flush=True)


if __name__ == "__main__":
    main()
