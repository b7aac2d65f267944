#!/usr/bin/env python3
"""What listening costs and how soon it notices: CPU and memory of `auscult run` with 1, 4 and 16 machines at a hop of 5 s and
of 1 s, the largest gap, the time from unplug to mic_lost and from replug to the next verdict.

Real parts: PulseAudio cards of four channels at 48 kHz through ALSA's pulse plugin, mosquitto, a bundle.
Usage: benches/capture.py --bundle DIR --wav FILE [--seconds 60] [--gap-minutes 10] [--outages 5] [--auscult BINARY]
                          [--parts steady,outages,gaps]
       The wav is played into every channel, over and over. Loopback only; everything ends with the script.
"""
import argparse, json, os, signal, subprocess, sys, tempfile, threading, time

from processes import free_port, memory_mb, share

def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", required=True)
    parser.add_argument("--wav", required=True)
    parser.add_argument("--model", default="id_00")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--gap-minutes", type=float, default=10)
    parser.add_argument("--outages", type=int, default=5)
    parser.add_argument("--parts", default="steady,outages,gaps")
    parser.add_argument("--auscult", default="target/release/auscult")
    return parser.parse_args()

CHANNELS = 4
children = []

def start(command, **more):
    more.setdefault("stdin", subprocess.DEVNULL)
    more.setdefault("stdout", subprocess.DEVNULL)
    more.setdefault("stderr", subprocess.DEVNULL)
    child = subprocess.Popen(command, **more)
    children.append(child)
    return child

def end(child):
    if child.poll() is None:
        child.kill()
    child.wait()
    if child in children:
        children.remove(child)

class Card:
    """One PulseAudio server whose sink's monitor is a microphone of four channels, and a player."""
    def __init__(self, number, root, wav):
        self.name, self.dir, self.wav = f"card{number}", os.path.join(root, f"card{number}"), wav
        os.makedirs(self.dir)
        self.env = {**os.environ, "HOME": self.dir, "XDG_RUNTIME_DIR": self.dir, "PULSE_RUNTIME_PATH": self.dir}
        self.env.pop("DBUS_SESSION_BUS_ADDRESS", None)
        self.plug_in()

    def plug_in(self):
        socket_file = os.path.join(self.dir, "native")
        if os.path.exists(socket_file):
            os.remove(socket_file)
        self.server = start([
            "pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no", "--realtime=no",
            "--high-priority=no", "--disable-shm=yes",
            "-L", f"module-null-sink sink_name=speaker rate=48000 channels={CHANNELS} norewinds=1 "
                  "channel_map=front-left,front-right,rear-left,rear-right",
            "-L", f"module-native-protocol-unix auth-anonymous=1 socket={socket_file}",
        ], env=self.env)
        while subprocess.run(["pactl", "-s", f"unix:{socket_file}", "info"], env=self.env,
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode:
            time.sleep(0.05)
        self.player = start(["paplay", "-s", f"unix:{socket_file}", "-d", "speaker", self.wav], env=self.env)

    def unplug(self):
        end(self.server)
        end(self.player)

class Agent:
    """A broker, the agent, and every message that it sends with the time of its coming."""
    def __init__(self, arguments, root, cards, machines, hop_s):
        self.dir = tempfile.mkdtemp(dir=root)
        port = free_port()
        broker_config = os.path.join(self.dir, "mosquitto.conf")
        open(broker_config, "w").write(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
        path = os.environ["PATH"] + ":/usr/sbin"
        self.broker = start(["mosquitto", "-c", broker_config], env={**os.environ, "PATH": path})
        time.sleep(0.5)
        self.messages = []
        self.subscriber = start(["mosquitto_sub", "-p", str(port), "-t", "auscult/#", "-F", "%t %p"],
                                stdout=subprocess.PIPE, text=True)
        threading.Thread(target=self.listen, daemon=True).start()
        config = os.path.join(self.dir, "agent.toml")
        with open(config, "w") as file:
            print(f'[agent]\nid = "bench"\nstate_dir = {json.dumps(self.dir)}\n[mqtt]\nurl = "mqtt://127.0.0.1:{port}"\n'
                  f'[bundle]\npath = {json.dumps(os.path.abspath(arguments.bundle))}', file=file)
            for number in range(machines):
                card = cards[number // CHANNELS]
                print(f'[[machine]]\nid = "m{number}"\nmodel = "{arguments.model}"\nhop_s = {hop_s}\n'
                      f'source = {{ device = "{card.name}", channel = {number % CHANNELS}, channels = {CHANNELS}, rate_hz = 48000 }}',
                      file=file)
        self.log = open(os.path.join(self.dir, "log"), "w")
        self.process = start([arguments.auscult, "run", "--config", config], stderr=self.log)

    def listen(self):
        for line in self.subscriber.stdout:
            topic, _, payload = line.partition(" ")
            try:
                self.messages.append((time.time(), topic.split("/"), json.loads(payload)))
            except ValueError:
                pass

    def of(self, machine, kind):
        return [(at, payload) for at, topic, payload in list(self.messages) if topic[2:] == [machine, kind]]

    def wait(self, what, condition, limit=60):
        until = time.time() + limit
        while not condition():
            if self.process.poll() is not None or time.time() > until:
                sys.exit(f"{what}: not within {limit} s; the agent's log:\n" + open(self.log.name).read())
            time.sleep(0.02)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            pass
        for child in [self.process, self.subscriber, self.broker]:
            end(child)

def steady(arguments, root, cards):
    print(f"\n| machines | hop s | CPU % of a core | a machine | resident MB | peak MB | assessed |\n|---|---|---|---|---|---|---|")
    for machines in [1, 4, 16]:
        for hop_s in [5, 1]:
            agent = Agent(arguments, root, cards, machines, hop_s)
            agent.wait("a verdict of each", lambda: all(agent.of(f"m{n}", "verdict") for n in range(machines)))
            time.sleep(5)
            seen = len(agent.messages)
            cpu = share(agent.process.pid, arguments.seconds)
            verdicts = [payload for _, topic, payload in agent.messages[seen:] if topic[-1] == "verdict"]
            assessed = sum(payload["verdict"] != "unknown" for payload in verdicts)
            resident, peak = memory_mb(agent.process.pid), memory_mb(agent.process.pid, "VmHWM")
            print(f"| {machines} | {hop_s} | {cpu:.2f} | {cpu / machines:.2f} | {resident:.1f} | {peak:.1f} | "
                  f"{assessed} of {len(verdicts)} |", flush=True)
            agent.stop()

def outages(arguments, root, cards):
    agent = Agent(arguments, root, cards, 1, 1)
    is_whole = lambda payload: payload.get("reason") not in ("no_signal", "gap")
    lost, back = [], []
    for _ in range(arguments.outages):
        agent.wait("a verdict", lambda: agent.of("m0", "verdict") and is_whole(agent.of("m0", "verdict")[-1][1]))
        event = lambda name: [at for at, payload in agent.of("m0", "event") if name in json.dumps(payload)]
        before = len(event("mic_lost"))
        begun = time.time()
        cards[0].unplug()
        agent.wait("mic_lost", lambda: len(event("mic_lost")) > before)
        lost.append(event("mic_lost")[-1] - begun)
        time.sleep(3)
        cards[0].plug_in()
        begun = time.time()
        agent.wait("a verdict", lambda: any(at > begun and is_whole(payload) for at, payload in agent.of("m0", "verdict")))
        back.append(next(at for at, payload in agent.of("m0", "verdict") if at > begun and is_whole(payload)) - begun)
    agent.stop()
    text = lambda values: f"{min(values):.2f} to {max(values):.2f} s"
    print(f"\nunplug to mic_lost: {text(lost)}; replug to the next scored verdict: {text(back)} (windows of 5 s, hop 1 s; "
          f"{arguments.outages} times)")
    # A stall without an error: only the age of the last frame tells.
    agent = Agent(arguments, root, cards, 1, 1)
    agent.wait("a verdict", lambda: agent.of("m0", "verdict") and is_whole(agent.of("m0", "verdict")[-1][1]))
    begun = time.time()
    cards[0].server.send_signal(signal.SIGSTOP)
    agent.wait("mic_lost", lambda: any("mic_lost" in json.dumps(payload) for _, payload in agent.of("m0", "event")))
    print(f"stalled without an error to mic_lost: {time.time() - begun:.2f} s")
    print(f"CPU while it is gone: {share(agent.process.pid, 20):.2f} % of a core")
    cards[0].server.send_signal(signal.SIGCONT)
    agent.stop()

def gaps(arguments, root, cards):
    from datetime import datetime
    agent = Agent(arguments, root, cards, 4, 1)
    agent.wait("a verdict of each", lambda: all(agent.of(f"m{n}", "verdict") for n in range(4)))
    time.sleep(arguments.gap_minutes * 60)
    largest, windows, faulty, holes = 0.0, 0, 0, 0
    for machine in range(4):
        verdicts = [payload for _, payload in agent.of(f"m{machine}", "verdict")]
        times = [datetime.fromisoformat(payload["ts"].replace("Z", "+00:00")).timestamp() for payload in verdicts]
        largest = max([largest] + [abs(b - a - 1) for a, b in zip(times, times[1:])])
        holes += sum(b["seq"] - a["seq"] != 1 for a, b in zip(verdicts, verdicts[1:]))
        windows += len(verdicts)
        faulty += sum(payload.get("reason") in ("gap", "no_signal", "overload") for payload in verdicts)
    print(f"\n{arguments.gap_minutes:g} minutes, 4 machines, hop 1 s: {windows} windows, {holes} holes in seq, {faulty} with missing "
          f"sound or overload; the time between two windows is off 1 s by {largest * 1000:.0f} ms at most")
    agent.stop()

def main():
    arguments_ = arguments()
    with tempfile.TemporaryDirectory(prefix="auscult-bench-") as root:
        try:
            # Long enough for all; at the cards' rate, so that nothing but the agent resamples.
            wav = os.path.join(root, "loop.wav")
            subprocess.run(["sox", arguments_.wav, "-r", "48000", "-c", str(CHANNELS), wav, "repeat", "180"], check=True,
                           stderr=subprocess.DEVNULL)
            alsa = os.path.join(root, "asound.conf")
            with open(alsa, "w") as file:
                print("</usr/share/alsa/alsa.conf>", file=file)
                for number in range(4):
                    print(f'pcm.card{number} {{ type pulse server "unix:{root}/card{number}/native" device "speaker.monitor" '
                          f'hint {{ show on description "card {number}" }} }}', file=file)
            os.environ["ALSA_CONFIG_PATH"] = alsa
            cards = [Card(number, root, wav) for number in range(4)]
            print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before; {arguments_.seconds:g} s each")
            for part in arguments_.parts.split(","):
                {"steady": steady, "outages": outages, "gaps": gaps}[part](arguments_, root, cards)
        finally:
            for child in list(children):
                end(child)

if __name__ == "__main__":
    main()
