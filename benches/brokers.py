#!/usr/bin/env python3
"""What holds on each broker: the table of docs/fleet.md.

tests/mqtt/clusters.rs runs a fleet on mosquitto and on one and three nodes of NATS and RabbitMQ, kills nodes, and writes down what
it saw. This runs it and prints one table of all.

    benches/brokers.py [FILTER]   runs the tests whose name contains FILTER (default: all), then prints
    benches/brokers.py --print    prints what earlier runs have written down

NATS_SERVER=/path/to/nats-server takes another version of NATS, which gets columns of its own.
"""

import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


def main():
    arguments = sys.argv[1:]
    status = 0
    if arguments != ["--print"]:
        name = "a_fleet_on" if not arguments else arguments[0]
        command = ["cargo", "test", "--release", "--test", "mqtt", "--", "--ignored", "--test-threads", "1", name]
        status = subprocess.run(command, cwd=ROOT).returncode
    written = sorted((ROOT / "target/tmp/brokers").glob("*.json"), key=lambda file: file.name.lower())
    columns = [json.loads(file.read_text()) for file in written]
    if not columns:
        sys.exit("nothing was written down: run it without --print first")
    names = []
    for column in columns:
        names += [name for name, _ in column["rows"] if name not in names]
    print("| | " + " | ".join(column["column"] for column in columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    for name in names:
        cells = [dict(column["rows"]).get(name, "") for column in columns]
        print(f"| {name} | " + " | ".join(cells) + " |")
    sys.exit(status)


main()
