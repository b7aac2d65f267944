#!/usr/bin/env python3
"""Runs every query of the dashboards, their variables and the alert rules on a real InfluxDB.

    check.py MESSAGES      MESSAGES: JSON lines {"topic", "payload"} as agents have sent them

The database is filled with the line protocol that deploy/telegraf/telegraf.conf makes of these messages: its topics, tags,
times, fields and number words are read from that file and applied as Telegraf documents them. Telegraf itself is not run.
"""
import datetime
import json
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
import urllib.parse
import urllib.request

ROOT = pathlib.Path(__file__).parents[2]


def matches(pattern, topic):
    """An MQTT filter without #."""
    return len(pattern.split("/")) == len(topic.split("/")) and all(p in ("+", t) for p, t in zip(pattern.split("/"), topic.split("/")))


def flat(value, name=""):
    """Telegraf's JSON flattener: nested names joined by _."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from flat(item, f"{name}_{key}" if name else key)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from flat(item, f"{name}_{index}" if name else str(index))
    elif value is not None:
        yield name, value


class Telegraf:
    def __init__(self):
        config = tomllib.loads((ROOT / "deploy/telegraf/telegraf.conf").read_text())
        self.inputs = config["inputs"]["mqtt_consumer"]
        self.words = [(p["namepass"], m) for p in config["processors"]["enum"] for m in p["mapping"]]
        for consumer in self.inputs:
            assert consumer["qos"] == 1 and consumer["persistent_session"] and consumer["client_id"], "messages would be lost"
        ids = [consumer["client_id"] for consumer in self.inputs]
        assert len(set(ids)) == len(ids), "two consumers under one client id throw each other out"

    def lines(self, topic, payload, now_ns):
        for consumer in self.inputs:
            if any(matches(pattern, topic) for pattern in consumer["topics"]):
                yield self.line(consumer, topic, payload, now_ns)

    def line(self, consumer, topic, payload, now_ns):
        parsing = [p for p in consumer["topic_parsing"] if matches(p["topic"], topic)]
        assert len(parsing) == 1, f"{topic}: {len(parsing)} topic_parsing tables fit"
        parts = topic.split("/")
        named = lambda template: {name: part for name, part in zip(template.split("/"), parts) if name != "_"}
        measurement = named(parsing[0]["measurement"])["measurement"]
        tags = named(parsing[0]["tags"])
        fields = dict(flat(payload))
        for key in consumer.get("tag_keys", []):
            if key in fields:
                tags[key] = str(fields.pop(key))
        stamp = now_ns
        if "json_time_key" in consumer:
            moment = datetime.datetime.fromisoformat(fields.pop(consumer["json_time_key"]).replace("Z", "+00:00"))
            stamp = int(moment.timestamp() * 1000) * 1_000_000
        strings = consumer["json_string_fields"]
        fields = {k: v for k, v in fields.items() if not isinstance(v, (str, bool)) or k in strings}
        dropped = [re.compile(d.replace("*", ".*")) for d in consumer.get("fielddrop", [])]
        fields = {k: v for k, v in fields.items() if not any(d.fullmatch(k) for d in dropped)}
        for names, mapping in self.words:
            if measurement in names and fields.get(mapping["field"]) in mapping["value_mappings"]:
                fields[mapping["dest"]] = mapping["value_mappings"][fields[mapping["field"]]]
        escape = lambda text: re.sub(r"([,= ])", r"\\\1", text)

        def shown(value):
            if isinstance(value, bool):
                return "true" if value else "false"
            if isinstance(value, str):
                return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
            return repr(float(value))

        head = ",".join([measurement, *(f"{k}={escape(v)}" for k, v in sorted(tags.items()))])
        # Enum's own numbers are integers.
        numbers = {m["dest"] for _, m in self.words}
        body = ",".join(f"{k}={v}i" if k in numbers else f"{k}={shown(v)}" for k, v in fields.items())
        return f"{head} {body} {stamp}"


class Influx:
    def __init__(self, folder):
        program = shutil.which("influxd") or "/usr/bin/influxd"
        self.port, rpc = (self.free() for _ in range(2))
        config = f"""
reporting-disabled = true
bind-address = "127.0.0.1:{rpc}"
[meta]
  dir = "{folder}/meta"
[data]
  dir = "{folder}/data"
  wal-dir = "{folder}/wal"
  query-log-enabled = false
[http]
  bind-address = "127.0.0.1:{self.port}"
  log-enabled = false
[monitor]
  store-enabled = false
"""
        (folder / "influxdb.conf").write_text(config)
        self.log = open(folder / "log", "w")
        self.process = subprocess.Popen([program, "-config", folder / "influxdb.conf"], stdout=self.log, stderr=self.log)
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/ping", timeout=5)
                break
            except OSError:
                if self.process.poll() is not None:
                    break
                time.sleep(0.1)
        else:
            raise SystemExit("InfluxDB does not answer")
        self.query("CREATE DATABASE auscult")

    @staticmethod
    def free():
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return probe.getsockname()[1]

    def call(self, path, data):
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data=data.encode())
        try:
            return urllib.request.urlopen(request, timeout=60).read().decode()
        except urllib.error.HTTPError as error:
            raise SystemExit(f"{error.read().decode()}\n{data[:300]}")

    def write(self, lines):
        self.call("/write?db=auscult&precision=ns", "\n".join(lines))

    def query(self, text):
        answer = json.loads(self.call("/query?db=auscult", urllib.parse.urlencode({"q": text})))["results"][0]
        if "error" in answer:
            raise SystemExit(f"{answer['error']}\n{text}")
        return answer.get("series", [])

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.log.close()


def queries():
    """Name, query, and whether it must find something in a fleet with an alarm and a machine that is not heard."""
    for file in sorted((ROOT / "deploy/grafana/dashboards").glob("*.json")):
        board = json.loads(file.read_text())
        for variable in board["templating"]["list"]:
            yield f"{board['title']}: ${variable['name']}", variable["query"]
        for panel in board["panels"]:
            for target in panel["targets"]:
                yield f"{board['title']}: {panel['title']} {target['refId']}", target["query"]
    rules = (ROOT / "deploy/grafana/provisioning/alerting/auscult.yaml").read_text()
    for query in re.findall(r'query: ("(?:[^"\\]|\\.)*")', rules):
        yield "alert rule", json.loads(query)


def main():
    telegraf = Telegraf()
    now_ns = time.time_ns()
    messages = [json.loads(line) for line in open(sys.argv[1])]
    lines = [line for m in messages if isinstance(m["payload"], dict) for line in telegraf.lines(m["topic"], m["payload"], now_ns)]
    folder = pathlib.Path(tempfile.mkdtemp(prefix="auscult-influx-"))
    influx = Influx(folder)
    try:
        influx.write(lines)
        agent, machine = next((m["topic"].split("/")[1:3] for m in messages if m["topic"].endswith("/alarm") and m["payload"]["state"] == "active"))
        empty, count = [], 0
        for name, query in queries():
            # As Grafana fills its macros and variables in.
            for macro, value in {"$timeFilter": "time > now() - 1h", "$__interval": "10s", "$agent": agent, "$machine": machine}.items():
                query = query.replace(macro, value)
            assert "$" not in query.replace("^%s$" % agent, ""), f"{name}: an unknown macro in {query}"
            series = influx.query(query)
            count += 1
            if not series:
                empty.append(name)
            if name == "auscult: fleet: Machines in alarm A":
                assert series[0]["values"][0][1] >= 1, "the alarm is not counted"
        print(f"{len(lines)} points, {count} queries run")
        print("found nothing in this fleet:", ", ".join(empty) or "none")
        # What a calm hour need not have; everything else must find something.
        calm = ("Why windows", "Agents whose clock", "What last went wrong", "alert rule", "Acknowledged", "Agents offline", "Processor temperature",
                "Connections lost", "Messages given up", "Machines normal", "Machines not assessed", "Windows not assessed")
        missing = [name for name in empty if not any(word in name for word in calm)]
        assert not missing, f"these found nothing: {missing}"
        assert empty.count("alert rule") <= 2, "the rules for alarms and for agents find something here"
        late(telegraf, influx)
    finally:
        influx.stop()
        shutil.rmtree(folder, ignore_errors=True)


def late(telegraf, influx):
    """What comes late is put where its time belongs, and what comes twice is there once."""
    moment = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=5)
    verdict = {"schema": 1, "ts": moment.strftime("%Y-%m-%dT%H:%M:%S.123Z"), "seq": 7, "agent": "late", "machine": "fan", "verdict": "unknown",
               "reason": "no_signal", "distance": None, "threshold": 0.3, "ratio": None, "level_dbfs": -120.0, "bundle": None, "late": True}
    for _ in range(2):
        influx.write(telegraf.lines("auscult/late/fan/verdict", verdict, time.time_ns()))
    series = influx.query("SELECT seq, reason, verdict_code, late FROM verdict WHERE agent = 'late'")
    assert len(series[0]["values"]) == 1, series
    assert series[0]["values"][0] == [verdict["ts"], 7, "no_signal", 2, True], series
    print("late and repeated messages land once, at their own time")


main()
