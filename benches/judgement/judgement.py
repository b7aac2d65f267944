#!/usr/bin/env python3
"""Prints how well auscult tells faults from normal running: `auscult replay --evaluate` on what can be had.

    python3 benches/judgement/judgement.py [--auscult target/release/auscult] [--bundle models/demo] [--json]
        [--real ../shared/real] [--few ../shared/real] [--fan DIR] [--motors DIR] [--drone DIR] [--simulated] [--days]
        [--disturbed DIR] [--overlaid DIR]

What is learned and what is judged are always different recordings. Every recording is brought to the same level, so that
loudness tells nothing. Python's standard library is enough, but for --overlaid, which needs numpy.

  --real       three small motors (CC BY 4.0, Mendeley j4yr5fmhv4): healthy at several speeds, broken propeller
  --few        four clips of two of them learned, all others judged; six splits at random, so that some learn far too little
  --motors     the same set whole: DIR/Healthy/M1 and so on
  --fan        clips of one fan: DIR/normal, DIR/abnormal (as in MIMII); 13 clips learned, six splits
  --drone      DIR/normal, DIR/1_broken, each with folders of flights; 7 flights learned, three splits
  --simulated  machines of `auscult synth`: learned at one level and background, judged at others; four faults
  --disturbed  clips of one machine: two thirds learned, the others end to end, with what is not of the machine laid over them for
               20 or 45 s and, of the same energy, with faults that stay; ten of each, counted by their alarms
  --overlaid   clips of one machine: two thirds learned, four faults at three strengths laid over each 5 s of the others; four splits
  --days       machines of `auscult synth` whose background is another every day: three days learned, five later ones judged
"""

import argparse
import array
import json
import math
import pathlib
import random
import struct
import subprocess
import tempfile
import wave

LEVEL = 0.05
# Of each recording, at most.
LIMIT_S = 40


def read(path):
    """The mean of all channels, -1 to 1, and the rate. Module wave refuses what has a long header."""
    data, at, form = pathlib.Path(path).read_bytes(), 12, None
    while at + 8 <= len(data):
        name, length = struct.unpack_from("<4sI", data, at)
        if name == b"fmt ":
            form = struct.unpack_from("<HHIIHH", data, at + 8)
        if name == b"data":
            break
        at += 8 + length + length % 2
    if form is None or form[5] != 16 or form[0] not in (1, 0xFFFE):
        raise SystemExit(f"{path}: expected a WAV file of 16 bits")
    channels, rate = form[1], form[2]
    length = min(length - length % (2 * channels), LIMIT_S * rate * 2 * channels)
    samples = array.array("h", data[at + 8:at + 8 + length])
    lanes = [samples[channel::channels] for channel in range(channels)]
    return [sum(frame) / channels / 32768 for frame in zip(*lanes)], rate


def unit(sound):
    """Brought to a root mean square of 1."""
    gain = 1 / max(1e-12, math.sqrt(sum(x * x for x in sound) / max(1, len(sound))))
    return [gain * x for x in sound]


def write(target, sound, rate):
    """A WAV file of one channel and 16 bits."""
    limited = (max(-32768, min(32767, round(32768 * x))) for x in sound)
    with wave.open(str(target), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(array.array("h", limited).tobytes())


def levelled(source):
    """A recording whose root mean square is LEVEL, and its rate."""
    sound, rate = read(source)
    return [LEVEL * x for x in unit(sound)], rate


class Bench:
    def __init__(self, args, folder):
        self.args, self.folder, self.copies, self.sums = args, pathlib.Path(folder), {}, {}

    def copy(self, source):
        if source not in self.copies:
            self.copies[source] = self.folder / f"{len(self.copies)}.wav"
            write(self.copies[source], *levelled(source))
        return self.copies[source].name

    def run(self, group, name, rows):
        """rows: (file, label, block, role)."""
        listed = self.folder / f"{name}.csv"
        lines = [f"{self.copy(file)},{label},{block},{role}" for file, label, block, role in rows]
        listed.write_text("file,label,block,role\n" + "\n".join(lines) + "\n")
        command = [self.args.auscult, "replay", "--bundle", self.args.bundle, "--machine", self.args.machine,
                   "--evaluate", str(listed), "--json"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"{name}: {done.stderr}")
        result = json.loads(done.stdout.splitlines()[-1])
        result["group"], result["split"] = group, name
        if self.args.json:
            print(json.dumps(result), flush=True)
        self.sums.setdefault(group, []).append(result)

    def sum_up(self):
        """One table for each lane: the mean over the splits of a group."""
        print(f"{'':12} {'lane':10} {'AUC':>6} {'least':>6} {'to 0.1':>7} {'false alarms':>13} {'found':>7}")
        for group, results in self.sums.items():
            for lane in [lane["lane"] for lane in results[0]["lanes"]]:
                of = [one for result in results for one in result["lanes"] if one["lane"] == lane]
                mean = lambda pick: sum(pick(one) for one in of) / len(of)
                auc, partial = mean(lambda one: one["auc"]["value"]), mean(lambda one: one["partial_auc"])
                least = min(one["auc"]["value"] for one in of)
                wrong, found = (100 * mean(lambda one: one[key]["value"]) for key in ("false_alarms", "found"))
                print(f"{group:12} {lane:10} {auc:6.3f} {least:6.3f} {partial:7.3f} {wrong:11.1f} % {found:5.1f} %")
            for fault in [fault["fault"] for fault in results[0]["faults"]]:
                of = [one["auc"]["value"] for result in results for one in result["faults"] if one["fault"] == fault]
                if len(results[0]["faults"]) > 1:
                    print(f"{group:12}   {fault:20} {sum(of) / len(of):6.3f} {min(of):6.3f}")


def wavs(folder):
    return sorted(pathlib.Path(folder).rglob("*.wav"))


def block(path):
    return "/".join(path.parts[-3:])


def splits(bench, group, normal, faulty, learned, count, seed=0):
    """Splits drawn at random: so many recordings learned, all others judged."""
    for number in range(count):
        chosen = set(random.Random(seed + number).sample(normal, learned))
        rows = [(file, "normal", block(file), "learn" if file in chosen else "test") for file in normal]
        bench.run(group, f"{group}-{number}", rows + [(file, "fault", block(file), "test") for file in faulty])


def every_other(bench, group, name, normal, faulty):
    """Every other speed learned, and the other way round."""
    for start in (0, 1):
        rows = [(file, "normal", block(file), "learn" if i % 2 == start else "test") for i, file in enumerate(normal)]
        bench.run(group, f"{name}-{start}", rows + [(file, "fault", block(file), "test") for file in faulty])


def simulated(bench, folder):
    """A month in short: learned at 18 dB over the background, judged at other takes, half of them at 14 dB."""
    faults = {"fan": ["rub", "blocked", "unbalance"], "blower": ["bearing", "loose", "blocked"],
              "pump": ["cavitation", "bursts", "bearing"]}
    for kind, names in faults.items():
        for seed in (21, 22):
            def made(what, take, minutes, *more):
                out = folder / f"{kind}-{seed}-{what}-{take}"
                subprocess.run([bench.args.auscult, "synth", kind, "--seed", str(seed), "--take", str(take), "--minutes",
                                str(minutes), "-o", str(out), *more], check=True, capture_output=True)
                return [(file, f"{what}-{take}/{i}") for i, file in enumerate(wavs(out))]
            rows = [(file, "normal", name, "learn") for file, name in made("learned", 0, 8, "--snr", "18")]
            for take, snr in ((1000, "18"), (2000, "14")):
                rows += [(file, "normal", name, "test") for file, name in made("normal", take, 3, "--snr", snr)]
                for fault in names:
                    more = ("--snr", snr, "--fault", fault, "--strength", "0.3")
                    rows += [(file, fault, name, "test") for file, name in made(fault, take + 500, 1, *more)]
            bench.run("simulated", f"{kind}-{seed}", rows)


def days(bench, folder):
    """Each day's background lies 16 dB below the machine, with a standard deviation of 1 dB."""
    for kind, fault in (("fan", "rub"), ("blower", "bearing"), ("pump", "cavitation")):
        for seed in (31, 32):
            def made(day, what, minutes, *more):
                out = folder / f"{kind}-{seed}-day{day}-{what}"
                snr = f"{16 + random.Random(f'{kind}-{seed}-{day}').gauss(0, 1):.2f}"
                take = str(1000 * day + 500 * (what != "normal"))
                subprocess.run([bench.args.auscult, "synth", kind, "--seed", str(seed), "--take", take, "--minutes",
                                str(minutes), "--snr", snr, "-o", str(out), *more], check=True, capture_output=True)
                return wavs(out)
            rows = []
            for day in range(8):
                role, minutes = ("learn", 4) if day < 3 else ("test", 2)
                rows += [(file, "normal", f"day-{day}", role) for file in made(day, "normal", minutes)]
                if day > 5:
                    more = ("--fault", fault, "--strength", "0.3")
                    rows += [(file, fault, f"day-{day}", "test") for file in made(day, fault, 1, *more)]
            bench.run("days", f"{kind}-{seed}-days", rows)


RATE = 16000


def resonator(source, hz, width_hz):
    """A resonance of a throat, a plate or a pipe."""
    decay = math.exp(-math.pi * width_hz / RATE)
    turn, before, last = 2 * decay * math.cos(2 * math.pi * hz / RATE), 0.0, 0.0
    out = []
    for x in source:
        before, last = last, x + turn * last - decay * decay * before
        out.append(last)
    return out


def speech(seconds, rng):
    """Syllables of a buzz through three formants, in sentences with pauses between them."""
    out = [0.0] * (seconds * RATE)
    at = 0
    while at < len(out):
        pitch = rng.uniform(90, 220)
        for _ in range(rng.randint(3, 11)):
            length = int(rng.uniform(0.08, 0.28) * RATE)
            buzz = [2 * (pitch * i / RATE % 1) - 1 for i in range(length)]
            for hz, width in ((rng.uniform(300, 800), 90), (rng.uniform(900, 2300), 120), (rng.uniform(2400, 3000), 180)):
                buzz = resonator(buzz, hz, width)
            loud = rng.uniform(0.5, 1.2)
            for i, x in enumerate(unit(buzz)[:max(0, len(out) - at)]):
                out[at + i] += loud * x * math.sin(math.pi * i / length)
            at += length + int(rng.uniform(0, 0.04) * RATE)
        at += int(rng.uniform(0.2, 1.2) * RATE)
    return out


def hammering(seconds, rng):
    """Blows that ring, 0.35 to 0.9 s apart, with a rest now and then."""
    out = [0.0] * (seconds * RATE)
    tones = [(rng.uniform(600, 4500), rng.uniform(20, 60)) for _ in range(5)]
    at = int(rng.uniform(0, 0.5) * RATE)
    while at < len(out):
        loud = rng.uniform(0.6, 1.2)
        for i in range(min(RATE // 4, len(out) - at)):
            t = i / RATE
            ring = sum(math.exp(-decay * t) * math.sin(2 * math.pi * hz * t) for hz, decay in tones)
            out[at + i] += loud * (ring + math.exp(-200 * t) * rng.gauss(0, 1))
        at += int(rng.uniform(0.35, 0.9) * RATE)
        if rng.random() < 0.12:
            at += int(rng.uniform(1, 4) * RATE)
    return out


def truck(seconds, rng):
    """A rumble and some hiss that come near and go."""
    noise = [rng.gauss(0, 1) for _ in range(seconds * RATE)]
    rumble, hiss = unit(resonator(noise, 90, 120)), unit(resonator(noise, 900, 1500))
    middle = len(noise) / 2
    return [(r + 0.3 * h) / (1 + (3 * (i - middle) / middle) ** 2) for i, (r, h) in enumerate(zip(rumble, hiss))]


def leak(seconds, rng):
    """A fault that is there all the time: noise in a band."""
    return resonator((rng.gauss(0, 1) for _ in range(seconds * RATE)), rng.uniform(700, 3000), 600)


def bearing(seconds, rng):
    """Impacts, 8 to 25 a second."""
    blows = [0.0] * (seconds * RATE)
    for at in range(0, len(blows), int(RATE / rng.uniform(8, 25))):
        blows[at] = rng.uniform(0.8, 1.2)
    return resonator(blows, rng.uniform(2000, 5000), 150)


def disturbed(bench, folder, source):
    """Alarms of `auscult replay` with its default settings."""
    clips = wavs(source)
    learned = clips[:2 * len(clips) // 3]
    bundle = folder / "disturbed"
    for file in learned:
        bench.copy(file)
    names = [str(bench.copies[file]) for file in learned]
    subprocess.run([bench.args.auscult, "enroll", "--bundle", bench.args.bundle, "--machine", bench.args.machine, "--out",
                    str(bundle), *names], check=True, capture_output=True)
    normal = [x for file in clips[len(learned):] for x in levelled(file)[0]]
    print(f"{'laid over normal sound':24} {'lasts, s':>9} {'alarms':>8}")
    for make, seconds in ((None, 0), (speech, 20), (speech, 45), (hammering, 20), (hammering, 45), (truck, 20), (truck, 45),
                          (leak, None), (bearing, None)):
        alarms, times = 0, 1 if make is None else 10
        for number in range(times):
            sound, start = list(normal), (60 + 7 * number) * RATE
            length = seconds if seconds is not None else (len(sound) - start) // RATE
            if make:
                for i, x in enumerate(unit(make(length, random.Random(number)))):
                    sound[start + i] += LEVEL * x
            file = folder / "laid-over.wav"
            write(file, sound, RATE)
            done = subprocess.run([bench.args.auscult, "replay", "--bundle", str(bundle), "--machine", bench.args.machine,
                                   "--json", str(file)], check=True, capture_output=True, text=True)
            alarms += json.loads(done.stdout.splitlines()[-1])["alarms"] > 0
        lasts = "stays" if seconds is None else str(seconds)
        print(f"{make.__name__ if make else 'nothing':24} {lasts:>9} {alarms:5} of {times}", flush=True)


def bursts(sound, count, length, loudness, rng, gain=None):
    import numpy as np
    for _ in range(count):
        start, burst = rng.integers(len(sound) - length), rng.standard_normal(length)
        if gain is not None:
            burst = np.fft.irfft(np.fft.rfft(burst) * gain, length)
        sound[start:start + length] += loudness * burst


def laid_over(sound, rate, fault, strength, rng):
    """The fault models of tests/common/overlay.rs."""
    import numpy as np
    sound, seconds = sound.copy(), len(sound) / rate
    if fault == "rubbing":
        length = int(0.02 * rate)
        above = 1 / np.sqrt(1 + (3000 / np.maximum(1, np.fft.rfftfreq(length, 1 / rate))) ** 8)
        bursts(sound, round(0.8 * seconds), length, 0.3 * strength, rng, above)
    elif fault == "bursts":
        bursts(sound, 3, int(0.05 * rate), 0.2 * strength, rng)
    elif fault == "blocked":
        low = rng.uniform(500, 1500)
        high, hz = low + rng.uniform(300, 800), np.fft.rfftfreq(len(sound), 1 / rate)
        off = np.abs(hz ** 2 - low * high) / np.maximum(1e-9, hz * (high - low))
        stop = 1 / np.sqrt(1 + np.maximum(1e-9, off) ** -8.0)
        sound = np.fft.irfft(np.fft.rfft(sound) * (1 - strength + strength * stop), len(sound))
    else:
        turn = 2 * np.pi * rng.uniform(4, 12) / rate
        sound *= 1 + 0.3 * strength * np.sin(turn * np.arange(len(sound)))
    return sound


def overlaid(bench, folder, source):
    """Each window has its own fault: where three bursts lay anywhere in 10 s, one window of 5 s in eight would have none."""
    import numpy as np
    clips = wavs(source)
    for split in range(4):
        rng = np.random.default_rng(split)
        order = list(rng.permutation(len(clips)))
        learned, judged = order[:2 * len(clips) // 3], order[2 * len(clips) // 3:]
        rows = [(clips[i], "normal", f"clip {i}", "learn") for i in learned]
        for i in judged:
            sound, rate = read(clips[i])
            for start in range(0, len(sound) - 5 * rate + 1, 5 * rate):
                part = np.array(sound[start:start + 5 * rate])
                made = [("normal", part)]
                for fault in ("rubbing", "blocked", "unbalance", "bursts"):
                    for strength in (0.3, 0.6, 1.0):
                        made.append((f"{fault} {strength}", laid_over(part, rate, fault, strength, rng)))
                for label, made_of in made:
                    file = folder / f"{split} {i} {start} {label}.wav"
                    write(file, made_of, rate)
                    rows.append((file, label, f"clip {i}", "test"))
        bench.run("overlaid", f"overlaid-{split}", rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--auscult", default="target/release/auscult")
    parser.add_argument("--bundle", default="models/demo")
    parser.add_argument("--machine", default="any")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--simulated", action="store_true")
    parser.add_argument("--days", action="store_true")
    for name in ("real", "few", "motors", "fan", "drone", "disturbed", "overlaid"):
        parser.add_argument(f"--{name}")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(args, folder)
        if args.real:
            motor = pathlib.Path(args.real) / "motor-1"
            every_other(bench, "motor", "motor-1", wavs(motor / "normal"), wavs(motor / "abnormal"))
        if args.few:
            faulty = wavs(f"{args.few}/motor-1/abnormal")
            splits(bench, "few-1", wavs(f"{args.few}/motor-1/normal"), faulty, 4, 6)
            # Of the third motor there is no fault: another motor's stands for it.
            splits(bench, "few-3", wavs(f"{args.few}/motor-3/normal"), faulty, 4, 6)
        if args.motors:
            for motor in ("M1", "M2"):
                every_other(bench, "motors", motor, wavs(f"{args.motors}/Healthy/{motor}"),
                            wavs(f"{args.motors}/Propeller/{motor}"))
        if args.fan:
            splits(bench, "fan", wavs(f"{args.fan}/normal"), wavs(f"{args.fan}/abnormal"), 13, 6)
        if args.drone:
            splits(bench, "drone", wavs(f"{args.drone}/normal")[::3], wavs(f"{args.drone}/1_broken")[::4], 7, 3)
        made = pathlib.Path(folder) / "made"
        made.mkdir()
        if args.simulated:
            simulated(bench, made)
        if args.days:
            days(bench, made)
        if args.disturbed:
            disturbed(bench, made, args.disturbed)
        if args.overlaid:
            overlaid(bench, made, args.overlaid)
        if bench.sums and not args.json:
            bench.sum_up()


if __name__ == "__main__":
    main()
