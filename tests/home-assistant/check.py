#!/usr/bin/env python3
"""An agent with three simulated machines in a real Home Assistant, which is asked over its own API what it shows.

    check.py AUSCULT ROOT VENV      as check.sh calls it: Home Assistant is VENV/bin/hass in the Debian root ROOT
"""
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

REPO = pathlib.Path(__file__).parents[2]
AUSCULT, ROOT, VENV = sys.argv[1:]
AGENT = "pi.7"
FAN, PUMP, DEAF = "fan-a", "pump-a", "blower-a"
# Name -> domain, device class, unit, entity id without its domain and device.
OF_AGENT = {
    "Connected": ("binary_sensor", "connectivity", None, "connectivity"),
    "Bundle": ("update", None, None, "bundle"),
    "Reload bundle": ("button", None, None, "reload"),
    "Messages waiting": ("sensor", None, None, "waiting"),
    "Processor temperature": ("sensor", "temperature", "°C", "temperature"),
}
OF_MACHINE = {
    "Alarm": ("binary_sensor", "problem", None, "problem"),
    "Verdict": ("sensor", "enum", None, "verdict"),
    "Distance": ("sensor", None, None, "distance"),
    "Level": ("sensor", None, "dBFS", "level"),
    "Running time": ("sensor", "duration", "h", "running"),
    "Threshold": ("number", None, None, "threshold"),
    "Acknowledge alarm": ("button", None, None, "acknowledge"),
    "The alarm was": ("select", None, None, "answer"),
    "Last alarm": ("image", None, None, "picture"),
}


class Failed(Exception):
    pass


def check(true, what):
    if not true:
        raise Failed(what)


def wait(what, done, seconds=60):
    """Until `done` gives something."""
    until = time.monotonic() + seconds
    while True:
        last = done()
        if last:
            return last
        check(time.monotonic() < until, f"not within {seconds} s: {what}")
        time.sleep(0.1)


def ok(what):
    print("ok", what, flush=True)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


class Process:
    """One that ends with the check."""

    def __init__(self, command, log, stdout=None):
        self.child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stdout or log, stderr=log, text=True)

    def send(self, number):
        self.child.send_signal(number)

    def stop(self, number=signal.SIGTERM):
        if self.child.poll() is None:
            self.child.send_signal(number)
        try:
            return self.child.wait(60)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
            raise Failed(f"{self.child.args[0]} did not stop") from None


class Messages:
    """All that goes over the broker."""

    def __init__(self, broker_port, log):
        self.port, self.all = broker_port, []
        command = ["mosquitto_sub", "-h", "127.0.0.1", "-p", str(broker_port), "-t", "#", "-T", "auscult/+/+/picture", "-F", "%t %p"]
        self.process = Process(command, log, subprocess.PIPE)
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.child.stdout:
            topic, _, payload = line.partition(" ")
            try:
                self.all.append((topic, json.loads(payload)))
            except ValueError:
                pass

    def of(self, part, machine=None, since=0):
        """The news in a topic."""
        topic = "/".join(filter(None, ["auscult", AGENT, machine, part]))
        return [payload for t, payload in self.all[since:] if t == topic and not payload.get("late")]

    def last(self, part, machine=None):
        return (self.of(part, machine) or [None])[-1]

    def publish(self, topic, payload):
        command = ["mosquitto_pub", "-h", "127.0.0.1", "-p", str(self.port), "-q", "1", "-t", topic, "-m", payload]
        subprocess.run(command, check=True)


class HomeAssistant:
    def __init__(self, log):
        self.port, self.log, self.token, self.names, self.process = free_port(), log, None, {}, None
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="home-assistant-", dir=f"{ROOT}/tmp"))
        (self.dir / "configuration.yaml").write_text(
            f"http:\n  server_host: 127.0.0.1\n  server_port: {self.port}\n"
            "api:\nconfig:\nlogger:\n  default: warning\n"
        )

    def start(self):
        # /proc is mounted in a namespace of its own, which ends with Home Assistant.
        inside = 'mount -t proc proc "$0/proc" && exec chroot "$0" "$@"'
        command = ["unshare", "--mount", "sh", "-c", inside, ROOT, f"{VENV}/bin/hass", "--config", f"/tmp/{self.dir.name}"]
        self.process = Process(command, self.log)

        def up():
            check(self.process.child.poll() is None, "Home Assistant has ended")
            try:
                if not self.token:
                    return self.ask("/api/onboarding")
                return self.ask("/api/config")["state"] == "RUNNING"
            except (OSError, Failed):
                return False

        # At its very first start it installs what its integrations need.
        wait("Home Assistant is up", up, 300)

    def ask(self, path, body=None, form=False):
        """GET, or POST of a body; JSON, or text where there is none."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}")
        if self.token:
            request.add_header("Authorization", f"Bearer {self.token}")
        if form:
            request.data = urllib.parse.urlencode(body).encode()
        elif body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
                text = answer.read().decode()
        except urllib.error.HTTPError as error:
            raise Failed(f"{path}: {error.code} {error.read().decode()}") from None
        try:
            return json.loads(text)
        except ValueError:
            return text

    def onboard(self, broker_port):
        """The first user, and the MQTT integration as its dialogue sets it up."""
        client = f"http://127.0.0.1:{self.port}/"
        user = {"name": "Ana", "username": "ana", "password": "only here", "client_id": client, "language": "en"}
        code = self.ask("/api/onboarding/users", user)["auth_code"]
        grant = {"grant_type": "authorization_code", "code": code, "client_id": client}
        self.token = self.ask("/auth/token", grant, form=True)["access_token"]
        wait("Home Assistant runs", lambda: self.ask("/api/config")["state"] == "RUNNING")
        flow = self.ask("/api/config/config_entries/flow", {"handler": "mqtt"})
        broker = {"broker": "127.0.0.1", "port": broker_port}
        made = self.ask(f"/api/config/config_entries/flow/{flow['flow_id']}", broker)
        check(made["type"] == "create_entry", f"the MQTT integration: {made}")

    def states(self):
        return {state["entity_id"]: state for state in self.ask("/api/states")}

    def shown(self):
        """(device, entity's name) -> state, with its device's facts, of all that came by MQTT."""
        template = (
            "{% set found = namespace(all=[]) %}{% for e in integration_entities('mqtt') %}"
            "{% set found.all = found.all + [[e, device_attr(e, 'name'), device_attr(e, 'model'), "
            "device_attr(e, 'manufacturer'), device_attr(device_attr(e, 'via_device_id') or '', 'name')]] %}"
            "{% endfor %}{{ found.all | tojson }}"
        )
        states, all = self.states(), {}
        for entity, device, *facts in self.ask("/api/template", {"template": template}):
            if entity in states:
                state = states[entity]
                name = state["attributes"].get("friendly_name", entity).removeprefix(device).strip()
                all[device, name] = state | {"device": facts}
        self.names = {key: state["entity_id"] for key, state in all.items()} or self.names
        return all

    def state(self, machine, name):
        found = self.states().get(self.names[machine or f"auscult {AGENT}", name])
        return found and found["state"]

    def call(self, service, machine, name, **data):
        domain, _, service = service.partition(".")
        data["entity_id"] = self.names[machine or f"auscult {AGENT}", name]
        self.ask(f"/api/services/{domain}/{service}", data)

    def picture(self, machine, name):
        """What an image shows, as bytes; nothing while it shows none."""
        path = self.states()[self.names[machine, name]]["attributes"].get("entity_picture")
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"http://127.0.0.1:{self.port}{path}", timeout=30) as answer:
                return answer.read()
        except urllib.error.HTTPError:
            return None

    def complaints(self):
        """What it logged about MQTT or about us, but for what is its due: a broker that goes, and a description that is
        taken back once more, as each start of an agent does with those of machines that were removed."""
        text = pathlib.Path(self.log.name).read_text()
        lines = [line for line in text.splitlines() if re.search(r" (WARNING|ERROR|CRITICAL) ", line)]
        due = r"\[paho.mqtt.client\]|Disconnected from MQTT|Failed to connect to MQTT|Error returned from MQTT server|to cleanup for"
        return [line for line in lines if re.search(r"mqtt|auscult", line, re.I) and not re.search(due, line)]


class Site:
    """The agent and its configuration."""

    def __init__(self, dir, broker_port, log):
        self.dir, self.port, self.log, self.process = dir, broker_port, log, None

    def start(self, machines, discovery=True):
        alarm = "alarm = { k = 2, n = 3, clear_at_most = 0, clear_after_s = 0.0, deaf_after_s = 45.0 }"
        sources = {
            FAN: '{ synth = "fan", speed = 5 }',
            # Long enough normal to be seen so.
            PUMP: '{ synth = "pump", speed = 5, fault = "rub", strength = 1.0, fault_after_s = 225 }',
            DEAF: '{ device = "card:nobody" }\nhop_s = 1.0',
        }
        text = (
            f'[agent]\nid = "{AGENT}"\nstate_dir = "{self.dir}/state"\nhealth_every_s = 2.0\n'
            f'[mqtt]\nurl = "mqtt://127.0.0.1:{self.port}"\n[bundle]\npath = "{REPO}/models/demo"\n'
            f"[encoder]\nengine = \"tract\"\n[homeassistant]\ndiscovery = {json.dumps(discovery)}\n"
        )
        for machine in machines:
            text += f'[[machine]]\nid = "{machine}"\n{alarm}\nsource = {sources[machine]}\n'
        (self.dir / "agent.toml").write_text(text)
        self.process = Process([AUSCULT, "run", "--config", f"{self.dir}/agent.toml"], self.log)


class Broker:
    def __init__(self, dir, log):
        self.port, self.log, self.process, self.config = free_port(), log, None, dir / "mosquitto.conf"
        self.config.write_text(f"listener {self.port} 127.0.0.1\nallow_anonymous true\nuser root\n")

    def start(self):
        program = shutil.which("mosquitto", path=os.environ["PATH"] + ":/usr/sbin")
        self.process = Process([program, "-c", str(self.config)], self.log)

        def up():
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self.port)) == 0

        wait("mosquitto is up", up)


def same(shown, said):
    if said is None or shown in (None, "unknown", "unavailable"):
        return said is None and shown == "unknown"
    return abs(float(shown) - said) < 1e-9


def agrees(messages, states, names, machine):
    """The window that Home Assistant shows; all that it shows must be of that window."""
    shown = {name: states[names[machine, name]] for name in OF_MACHINE}
    attributes = shown["Verdict"]["attributes"]
    seq = attributes.get("seq")
    said = next((message for message in messages.of("verdict", machine)[::-1] if message["seq"] == seq), None)
    # The attributes are those of late ones too.
    if said is None or attributes["late"]:
        return None
    what = f"{machine} {said}: {shown}"
    check(shown["Verdict"]["state"] == said["verdict"], what)
    check(same(shown["Level"]["state"], said["level_dbfs"]), what)
    if said["verdict"] == "unknown":
        check(shown["Distance"]["state"] == "unavailable", what)
        check(shown["Alarm"]["state"] != "off", what)
    else:
        check(same(shown["Distance"]["state"], said["distance"]), what)
    return seq


def everything(ha, messages, machines):
    """Whether every entity shows what was said last, as far as it can be compared without a race."""
    states = ha.states()
    got = lambda machine, name: states[ha.names[machine or f"auscult {AGENT}", name]]["state"]
    if got(None, "Connected") != "on" or got(None, "Bundle") != "off":
        return False
    for machine in machines:
        if agrees(messages, states, ha.names, machine) is None:
            return False
        alarm, settings = messages.last("alarm", machine), messages.last("settings", machine)
        standing = alarm["state"] in ("active", "acknowledged")
        assessed = messages.last("verdict", machine)["verdict"] != "unknown"
        expected = "on" if standing else "off" if assessed else "unknown"
        if got(machine, "Alarm") != expected or not same(got(machine, "Threshold"), settings["threshold"]):
            return False
    return all("unavailable" != got(None, name) for name in OF_AGENT)


def appear(ha, machines):
    expected = {(f"auscult {AGENT}", name) for name in OF_AGENT}
    expected |= {(machine, name) for machine in machines for name in OF_MACHINE}
    shown = {}

    def there():
        nonlocal shown
        shown = ha.shown()
        return expected <= shown.keys()

    try:
        wait("the entities are there", there)
    except Failed as failed:
        raise Failed(f"{failed}: {sorted(expected - shown.keys())} of {sorted(shown)}") from None
    check(shown.keys() == expected, f"too many: {shown.keys() - expected}")
    return shown


def run(broker, ha, messages, site, version):
    machines = [FAN, PUMP, DEAF]
    start = time.monotonic()
    site.start(machines)
    shown = appear(ha, machines)
    for (device, name), state in shown.items():
        of_agent = device == f"auscult {AGENT}"
        domain, kind, unit, id = (OF_AGENT if of_agent else OF_MACHINE)[name]
        attributes = state["attributes"]
        check(attributes.get("device_class") == kind and attributes.get("unit_of_measurement") == unit, state)
        slug = re.sub(r"[^a-z0-9]", "_", f"auscult {AGENT}" if of_agent else f"{AGENT} {device}")
        check(state["entity_id"].startswith(f"{domain}."), state)
        # Older ones make the id of the names.
        if version >= (2025, 10):
            check(state["entity_id"] == f"{domain}.{slug}_{id}", state)
        model, maker, via = state["device"]
        check(maker == "auscult" and model == ("agent" if of_agent else device), state)
        check(via == (None if of_agent else f"auscult {AGENT}"), state)
    ok(f"{len(shown)} entities of an agent and {len(machines)} machines appear, their devices linked to the agent's")

    heard = {machine: set() for machine in machines}

    def follows():
        states = ha.states()
        for machine in machines:
            heard[machine].add(agrees(messages, states, ha.names, machine))
        return all(len(seqs - {None}) >= 5 for seqs in heard.values())

    wait("five windows of each machine", follows)
    for machine, expected in (FAN, "off"), (PUMP, "off"):
        wait(f"the alarm of {machine} is off", lambda: ha.state(machine, "Alarm") == expected)
    check(messages.last("alarm", PUMP)["state"] == "normal", "the pump was to be normal for a while")
    check(time.monotonic() - start < 45, "too slow to see the deaf machine before its alarm")
    check(messages.last("verdict", DEAF)["reason"] == "no_signal", messages.last("verdict", DEAF))
    check(ha.state(DEAF, "Verdict") == "unknown" and ha.state(DEAF, "Distance") == "unavailable", "deaf")
    check(ha.state(DEAF, "Alarm") == "unknown", f"a machine without signal: Alarm {ha.state(DEAF, 'Alarm')}")
    ok("a machine without signal is shown unknown, not off")
    wait("its alarm", lambda: ha.state(DEAF, "Alarm") == "on" and messages.last("alarm", DEAF)["kind"] == "deaf")
    wait("health", lambda: ha.state(None, "Messages waiting") == str(messages.last("health")["outbox_depth"]))
    check(same(ha.state(None, "Processor temperature"), messages.last("health")["cpu_temp_c"]), "temperature")
    wait("the fault's alarm", lambda: messages.last("alarm", PUMP)["state"] == "active")
    wait("... is shown", lambda: ha.state(PUMP, "Alarm") == "on")
    wait("anomalous windows are shown", lambda: ha.state(PUMP, "Verdict") == "anomalous")
    check(ha.state(FAN, "Alarm") == "off", "the fan has no fault")
    ok("verdict, distance, level, health and alarm follow")

    before = len(messages.all)
    ha.call("number.set_value", FAN, "Threshold", value=7.125)
    wait("settings", lambda: messages.last("settings", FAN)["threshold"] == 7.125)
    check(messages.last("settings", FAN)["source"] == "override", messages.last("settings", FAN))
    wait("the number", lambda: float(ha.state(FAN, "Threshold")) == 7.125)
    wait("a verdict by it", lambda: messages.of("verdict", FAN, before) and messages.last("verdict", FAN)["threshold"] == 7.125)
    ha.call("number.set_value", FAN, "Threshold", value=8)
    wait("a whole number", lambda: messages.last("settings", FAN)["threshold"] == 8 and ha.state(FAN, "Threshold") in ("8", "8.0"))
    for value in 0, -1, 1000, 5000:
        try:
            ha.call("number.set_value", FAN, "Threshold", value=value)
        except Failed:
            continue
        raise Failed(f"{value} was taken")
    check(messages.last("settings", FAN)["threshold"] == 8, "refused, and yet set")
    ok("number.set_value sets the threshold; what is out of range is refused")

    before = len(messages.all)
    ha.call("button.press", PUMP, "Acknowledge alarm")
    alarm = wait("acknowledged", lambda: messages.last("alarm", PUMP)["state"] == "acknowledged" and messages.last("alarm", PUMP))
    check(alarm["by"] == "Home Assistant", alarm)
    wait("... is shown", lambda: ha.states()[ha.names[PUMP, "Alarm"]]["attributes"].get("alarm") == "acknowledged")
    check(ha.state(PUMP, "Alarm") == "on", "an acknowledged alarm stands")
    ha.call("button.press", None, "Reload bundle")
    replies = wait("two replies", lambda: (found := messages.of("reply", since=before)) and len(found) == 2 and found)
    for reply, command in zip(replies, ("alarm.acknowledge", "bundle.reload")):
        check(reply["status"] == "ok" and reply["command"] == command and reply["id"].startswith("ha-"), reply)
    bundle = ha.states()[ha.names[f"auscult {AGENT}", "Bundle"]]
    check(bundle["state"] == "off" and bundle["attributes"]["installed_version"] == messages.last("info")["bundle"], bundle)
    ok(f"buttons acknowledge and reload; the update entity shows {bundle['attributes']['installed_version']!r}")

    before = len(messages.all)
    ha.call("select.select_option", PUMP, "The alarm was", option="loose part")
    reply = wait("the answer", lambda: next(iter(messages.of("reply", since=before)), None))
    check(reply["command"] == "alarm.confirm" and reply["status"] == "ok", reply)
    check((reply["data"]["outcome"], reply["data"]["name"]) == ("fault", "loose part"), reply)
    check(ha.state(PUMP, "The alarm was") == "unknown", "an answer does not stay")
    ok("an alarm is answered")
    kept = lambda: [clip.read_bytes() for clip in site.dir.glob(f"state/clips/{PUMP}/*/spectrogram.png")]
    wait("the picture of the alarm", lambda: kept() and ha.picture(PUMP, "Last alarm") in kept())
    check(ha.state(FAN, "Last alarm") == "unknown" and ha.picture(FAN, "Last alarm") is None, "a picture without an alarm")
    ok("the picture of the alarm is shown")

    ha.call("number.set_value", PUMP, "Threshold", value=900)
    wait("the alarm clears", lambda: messages.last("alarm", PUMP)["state"] == "normal")
    wait("... is shown", lambda: ha.state(PUMP, "Alarm") == "off" and ha.state(PUMP, "Verdict") == "normal")
    ok("an alarm that clears is shown")

    # What waited for the broker is history: here the agent holds still, so that nothing else comes after it.
    wait("all is said", lambda: everything(ha, messages, machines))
    site.process.send(signal.SIGSTOP)
    time.sleep(1)
    before = ha.states()
    fan = f"auscult/{AGENT}/{FAN}"
    verdict = {"verdict": "anomalous", "distance": 42.0, "level_dbfs": -1.0, "alarm": "active", "late": True}
    messages.publish(f"{fan}/verdict", json.dumps(messages.last("verdict", FAN) | verdict))
    messages.publish(f"{fan}/alarm", json.dumps(messages.last("alarm", FAN) | {"state": "active", "late": True}))
    unknown = {"verdict": "unknown", "reason": "gap", "distance": None, "late": True}
    messages.publish(f"{fan}/verdict", json.dumps(messages.last("verdict", FAN) | unknown))
    time.sleep(2)
    after = ha.states()
    for name in OF_MACHINE:
        entity = ha.names[FAN, name]
        check(before[entity]["state"] == after[entity]["state"], f"late: {before[entity]}, {after[entity]}")
    site.process.send(signal.SIGCONT)
    wait("all is said", lambda: everything(ha, messages, machines))
    ok("late messages, sent after an outage, are not shown as news")

    def gone():
        states = ha.states()
        rest = {key for key, entity in ha.names.items() if states[entity]["state"] != "unavailable"}
        return rest == {(f"auscult {AGENT}", "Connected")} and ha.state(None, "Connected") == "off"

    for number in signal.SIGKILL, signal.SIGTERM:
        site.process.stop(number)
        wait(f"unavailable after {number.name}", gone)
        site.start(machines)
        wait(f"back after {number.name}", lambda: everything(ha, messages, machines))
    ok("killed or stopped: unavailable, all but Connected, which is off; started: back with values")

    broker.process.stop()
    wait("unavailable without broker", lambda: all(ha.states()[e]["state"] == "unavailable" for e in ha.names.values()))
    time.sleep(3)
    before = len(messages.all)
    broker.start()
    wait("the broker's subscriber is back", lambda: messages.of("verdict", FAN, before))
    wait("back with the broker", lambda: everything(ha, messages, machines), 120)
    ok("the broker restarted, its memory lost: back with values")

    ha.process.stop()
    time.sleep(2)
    ha.start()
    wait("back with Home Assistant", lambda: ha.shown() and everything(ha, messages, machines))
    appear(ha, machines)
    ok("Home Assistant restarted: back with values")

    site.process.stop()
    machines.remove(FAN)
    site.start(machines)
    wait("the others stay", lambda: everything(ha, messages, machines))
    if version >= (2025, 5):
        wait("the fan is gone", lambda: not any(device == FAN for device, _ in ha.shown()))
        appear(ha, machines)
        devices = "{{ integration_entities('mqtt') | map('device_attr', 'name') | unique | sort | tojson }}"
        check(FAN not in ha.ask("/api/template", {"template": devices}), "its device is still there")
    site.process.stop()
    site.start(machines, discovery=False)
    if version >= (2025, 5):
        wait("all are gone", lambda: not ha.shown())
        ok("a machine taken out of the configuration is gone, and all with discovery = false")
    else:
        # It cannot clean up after a device whose discovery topic has a node id.
        wait("the agent is gone", lambda: not any(device == f"auscult {AGENT}" for device, _ in ha.shown()))
        ok("with discovery = false the agent is gone; this version does not take machines out")

    check(not ha.complaints(), "Home Assistant complains:\n" + "\n".join(ha.complaints()))
    ok("Home Assistant logged no warning about any of it")


def main():
    dir = pathlib.Path(tempfile.mkdtemp(prefix="auscult-home-assistant-"))
    logs = {name: open(dir / f"{name}.log", "a", encoding="utf-8") for name in ("mosquitto", "home-assistant", "agent")}
    broker = Broker(dir, logs["mosquitto"])
    ha = HomeAssistant(logs["home-assistant"])
    site = Site(dir, broker.port, logs["agent"])
    messages = None
    try:
        broker.start()
        messages = Messages(broker.port, logs["mosquitto"])
        ha.start()
        ha.onboard(broker.port)
        version = ha.ask("/api/config")["version"]
        ok(f"Home Assistant {version} with its MQTT integration is up")
        run(broker, ha, messages, site, tuple(int(part) for part in version.split(".")[:2]))
        return 0
    except Failed as failed:
        for log in logs.values():
            last = pathlib.Path(log.name).read_text().splitlines()[-25:]
            print(f"--- {pathlib.Path(log.name).stem}:", *last, sep="\n", file=sys.stderr)
        print(f"FAILED: {failed}", file=sys.stderr)
        return 1
    finally:
        for one in site, ha, messages, broker:
            if one and one.process:
                one.process.stop(signal.SIGKILL)
        shutil.rmtree(ha.dir, ignore_errors=True)
        shutil.rmtree(dir, ignore_errors=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
