#!/usr/bin/env python3
"""Recordings of simulated machines, laid out for train.py: OUT/MACHINE/{normal,abnormal/FAULT-STRENGTH}/*.wav.

A machine's name says what it is and is its seed: fan-a, blower-b, pump-c. Recordings are 10 s long, each the machine at
another time. What is there already is not made again.
"""
import argparse
import concurrent.futures
import pathlib
import subprocess

from tqdm import tqdm

FAULTS = ["rub", "blocked", "unbalance", "bearing", "loose", "bursts"]


def jobs(args):
    """Directories to fill: path, options, clips."""
    for machine in args.machines:
        kind = machine.split("-")[0]
        yield args.out / machine / "normal", [kind, "--id", machine], args.normal
        for fault in (FAULTS + ["cavitation"] if kind == "pump" else FAULTS) if args.abnormal else []:
            for strength in args.strengths:
                options = [kind, "--id", machine, "--fault", fault, "--strength", str(strength), "--take", "100000"]
                yield args.out / machine / "abnormal" / f"{fault}-{strength}", options, args.abnormal


def make(auscult, job):
    out, options, clips = job
    if len(list(out.glob("*.wav"))) < clips:
        minutes = clips * 10 / 60
        command = [auscult, "synth", *options, "--minutes", f"{minutes:.6f}", "--clip", "10", "-o", str(out)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--auscult", default="target/release/auscult")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--machines", nargs="+", required=True)
    parser.add_argument("--normal", type=int, default=200, help="normal recordings of each machine")
    parser.add_argument("--abnormal", type=int, default=4, help="recordings of each fault and strength")
    parser.add_argument("--strengths", type=float, nargs="+", default=[0.3, 0.6, 0.9])
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    work = list(jobs(args))
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool, tqdm(total=len(work), unit=" folders") as bar:
        for _ in pool.map(lambda job: make(args.auscult, job), work):
            bar.update()


if __name__ == "__main__":
    main()
