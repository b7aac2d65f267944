#!/usr/bin/env python3
"""Recordings of simulated machines, laid out for train.py: OUT/MACHINE/{normal,abnormal/FAULT-STRENGTH}/*.wav.

A machine's name says what it is and is its seed: fan-a, blower-b, pump-c. Recordings are 10 s long, each the machine at
another time. With --teach they also run slowly (normal/slow), and each recording is one of another day: its background,
its level and the place of its microphone. What is there already is not made again.
"""
import argparse
import concurrent.futures
import pathlib
import shutil
import subprocess
import zlib

import numpy as np
from tqdm import tqdm

from recordings import samples, write

FAULTS = ["rub", "blocked", "unbalance", "bearing", "loose", "bursts"]
RATE_HZ = 16_000


def jobs(args):
    """Directories to fill: path, options, clips."""
    for machine in args.machines:
        kind = machine.split("-")[0]
        yield args.out / machine / "normal", [kind, "--id", machine], args.normal
        if args.teach:
            slow = [kind, "--id", machine, "--shaft-speed", "0.8", "--take", "50000"]
            yield args.out / machine / "normal" / "slow", slow, args.abnormal
        for fault in (FAULTS + ["cavitation"] if kind == "pump" else FAULTS) if args.abnormal else []:
            for strength in args.strengths:
                options = [kind, "--id", machine, "--fault", fault, "--strength", str(strength), "--take", "100000"]
                yield args.out / machine / "abnormal" / f"{fault}-{strength}", options, args.abnormal


def make(auscult, job, of_days=False):
    """Fills a directory, as a whole: what was interrupted is made again."""
    out, options, clips = job
    if len(list(out.glob("*.wav"))) >= clips:
        return
    staging = out.with_name(f".{out.name}")
    shutil.rmtree(staging, ignore_errors=True)
    command = [auscult, "synth", *options, "--minutes", f"{clips * 10 / 60:.6f}", "--clip", "10", "-o", str(staging)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    out.mkdir(parents=True, exist_ok=True)
    for file in sorted(staging.glob("*.wav")):
        if of_days:
            seed = zlib.crc32(str(pathlib.Path(*out.parts[-3:]) / file.name).encode())
            write(file, of_another_day(samples(file)[:, 0], np.random.default_rng(seed)))
        file.replace(out / file.name)
    staging.rmdir()


def curve(random, frequencies, spread_db):
    """A smooth curve of gains over frequency: some broad hills and dips, dB."""
    octaves = np.log2(np.maximum(frequencies, 20) / 20)
    centres, widths = random.uniform(0, 9, 5), random.uniform(0.7, 2.5, 5)
    hills = np.exp(-0.5 * ((octaves[:, None] - centres) / widths) ** 2)
    return hills @ random.normal(0, spread_db, 5)


def of_another_day(sound, random):
    """The same machine with its microphone moved a little, another background (steady or swelling, 3 to 30 dB below
    the machine) and another level."""
    frequencies = np.fft.rfftfreq(len(sound), 1 / RATE_HZ)
    moved = np.fft.irfft(np.fft.rfft(sound) * 10 ** (curve(random, frequencies, 1.0) / 20), len(sound))
    tilt_db = -random.uniform(1, 7) * np.log2(np.maximum(frequencies, 50) / 50)
    colour = 10 ** ((tilt_db + curve(random, frequencies, 6.0)) / 20)
    background = np.fft.irfft(np.fft.rfft(random.normal(size=len(sound))) * colour, len(sound))
    seconds = np.arange(len(sound)) / RATE_HZ
    swell_db = random.uniform(0, 4) * np.sin(2 * np.pi * (random.uniform(0.05, 0.5) * seconds + random.random()))
    background *= 10 ** (swell_db / 20)
    below = 10 ** (-random.uniform(3, 30) / 20)
    mixed = moved + background * below * np.sqrt(np.mean(moved**2) / np.mean(background**2))
    return mixed * 10 ** (random.uniform(-9, 3) / 20)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--auscult", default="target/release/auscult")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--machines", nargs="+", required=True)
    parser.add_argument("--teach", action="store_true", help="machines that teach the encoder what varies and what does not")
    parser.add_argument("--normal", type=int, default=200, help="normal recordings of each machine")
    parser.add_argument("--abnormal", type=int, default=4, help="recordings of each fault and strength, and of slow running")
    parser.add_argument("--strengths", type=float, nargs="+", default=[0.3, 0.6, 0.9])
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    work = list(jobs(args))
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool, tqdm(total=len(work), unit=" folders") as bar:
        for _ in pool.map(lambda job: make(args.auscult, job, args.teach), work):
            bar.update()


if __name__ == "__main__":
    main()
