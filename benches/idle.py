#!/usr/bin/env python3
"""How often an agent wakes up, and what its processor time goes into, thread by thread.

    benches/idle.py [--machines 1] [--seconds 20]     # needs ../shared, mosquitto and `make`'s program

One agent that listens to recordings at a hop of 5 s, with a broker beside it. A wake-up is a voluntary context switch: a
thread went to sleep and came back. Times are the scheduler's (/proc/PID/task/*/schedstat). It begins when the agent has
listened for 10 s.
"""
import argparse
import collections
import pathlib
import tempfile
import time

from figures import Broker, agent, until
from processes import memory_mb

GROUPS = {"capture": "listening, resampling", "scoring": "scoring", "outbox": "SQLite and MQTT", "mqtt": "SQLite and MQTT"}


def threads(pid):
    """Wake-ups and seconds of processor time so far, by thread."""
    found = {}
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        status = dict(line.split(":", 1) for line in (task / "status").read_text().splitlines())
        seconds = int((task / "schedstat").read_text().split()[0]) / 1e9
        found[task.name] = (status["Name"].strip(), int(status["voluntary_ctxt_switches"]), seconds)
    return found


def differences(before, after):
    """Wake-ups and seconds in between, by the threads' names."""
    sums = collections.defaultdict(lambda: [0, 0.0, 0])
    for task, (name, wakes, seconds) in after.items():
        _, wakes_before, seconds_before = before.get(task, (name, 0, 0.0))
        entry = sums[name]
        entry[0] += wakes - wakes_before
        entry[1] += seconds - seconds_before
        entry[2] += 1
    return sums


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--machines", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=20)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        broker = Broker(folder)
        child = agent(folder, broker.port, args.machines, "native")
        try:
            until(child, "listening")
            time.sleep(10)
            before = threads(child.pid)
            time.sleep(args.seconds)
            found = differences(before, threads(child.pid))
            memory = [memory_mb(child.pid, name) for name in ("VmRSS", "RssAnon", "RssFile")]
        finally:
            child.terminate()
            child.communicate()
            broker.end()
    print("| thread | how many | wake-ups a second | ms of a processor a second |\n|---|--:|--:|--:|")
    groups = collections.Counter()
    for name, (wakes, seconds, count) in sorted(found.items(), key=lambda item: -item[1][0]):
        print(f"| `{name}` | {count} | {wakes / args.seconds:.2f} | {1e3 * seconds / args.seconds:.3f} |")
        groups[GROUPS.get(name.split("-")[0], "the rest")] += seconds
    total = sum(groups.values())
    wakes = sum(wakes for wakes, _, _ in found.values())
    print(f"| all | | {wakes / args.seconds:.2f} | {1e3 * total / args.seconds:.3f} |")
    print("\n" + ", ".join(f"{name}: {seconds / total:.0%}" for name, seconds in groups.most_common()))
    print("resident {:.1f} MB, {:.1f} of its own and {:.1f} from files".format(*memory))


if __name__ == "__main__":
    main()
